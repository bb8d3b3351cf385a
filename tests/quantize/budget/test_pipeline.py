"""A run with a byte budget keeps its search, compares with stock types, and resumes what it had."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantize import build
from quantize.__main__ import main
from quantize.budget import artifact as budget_artifact
from quantize.budget.artifact import label, read
from quantize.config import BudgetConfig, QuantizeConfig
from quantize.digest import sha256_file
from quantize.llama.gguf_header import read_header

ASKED = ["--types", "f16", "--target-bpw", "6.6", "--no-verify"]
ASKED += ["--set", "budget.probes=9", "--set", "budget.types=['q4_k', 'q6_k', 'q8_0']"]
ASKED += ["--set", "budget.probe_tokens=64", "--set", "imatrix.tokens=64"]
ASKED += ["--set", "measure.scored_tokens=24", "--set", "measure.prefill_tokens=32"]
ASKED += ["--set", "measure.decode_tokens=4", "--set", "measure.rounds=1"]
ASKED += ["--set", "measure.text_tokens=24", "--set", "measure.kv_types=[]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("budget-home")


@pytest.fixture(scope="module")
def asked(tiny_merged, tmp_path_factory):
    """Return what asks for a budget and a matrix collected on a text."""
    text = tmp_path_factory.mktemp("calibration") / "text.txt"
    text.write_text("def add(a, b):\n    return a + b\n" * 20)
    source = ["--from", str(tiny_merged / "f16.gguf")]
    return [*source, *ASKED, "--set", f"imatrix.text={text}"]


@pytest.fixture(scope="module")
def done(home, asked):
    """Run once to a kill after the search, and again to the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESMITH_HOME", str(home))
        patch.setattr(build, "quantize_file", _killed)
        with pytest.raises(SystemExit):
            main(asked)
        patch.undo()
        patch.setenv("EDGESMITH_HOME", str(home))
        patch.setattr(budget_artifact, "Search", _searched_again)
        assert main(asked) == 0
    (run,) = (home / "runs" / "quantize").iterdir()
    return run


def _killed(*_arguments, **_options):
    raise SystemExit(9)


def _searched_again(*_arguments):
    raise AssertionError("the search was there already")


def test_killed_while_collecting_and_while_searching_it_ends_with_the_same_bytes(
    done, asked, tmp_path, monkeypatch
):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    num_kills = sum(_kill_at(tmp_path, asked, each) for each in ("imatrix", "budget/unfinished.*"))
    if num_kills == 0:
        pytest.skip("the process was faster than the kill")
    assert main([*asked, "--no-measure"]) == 0
    (run,) = (tmp_path / "runs" / "quantize").iterdir()
    assert _hashes(run) == _hashes(done)
    assert not list(run.rglob("*.partial"))
    assert not list(run.rglob("unfinished.*"))


def _kill_at(home, asked, moment):
    """Kill the command when a file appears; return whether it was still at work then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "quantize", *asked, "--no-measure"],
        env=os.environ | {"EDGESMITH_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(home.glob(f"runs/quantize/*/{moment}")):
        assert time.monotonic() < deadline
    is_early = process.poll() is None
    if is_early:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return is_early


def _hashes(run):
    files = [*run.glob("*.gguf"), *run.glob("imatrix/*.gguf"), *run.glob("budget/*.json")]
    return {path.name: sha256_file(path) for path in files}


def test_the_file_is_within_its_budget_and_named_after_it(done):
    found = read(done / "budget" / "fit_6.6bpw.json")
    (path,) = done.glob("*-fit_6.6bpw.gguf")
    assert 0.99 * found.target_bytes <= path.stat().st_size <= found.target_bytes
    assert read_header(path).text("edgesmith.quant.type") == "fit_6.6bpw"


def test_the_manifest_lists_the_search_and_the_best_stock_type(done):
    outputs = json.loads((done / "manifest.json").read_text())["outputs"]
    assert [o["path"] for o in outputs if o["role"] == "budget"] == ["budget/fit_6.6bpw.json"]
    best = read(done / "budget" / "fit_6.6bpw.json").stock[0].type_name
    assert any(o["path"].endswith(f"-{best}.gguf") for o in outputs if o["role"] == "gguf")


def test_the_report_compares_whichever_way_it_ends(done):
    report = (done / "report.md").read_text()
    assert "## Byte budget fit_6.6bpw: " in report
    assert "than the best stock type measured within the budget" in report


def test_a_budget_that_cannot_be_met_ends_with_the_smallest_size(tiny_merged, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESMITH_HOME", str(tmp_path))
        source = ["--from", str(tiny_merged / "f16.gguf"), "--types", "f16"]
        types = ["--set", "budget.types=['q4_k']", "--set", "budget.probe_tokens=64"]
        assert main([*source, *types, "--target-size", "2M", "--no-measure"]) == 2
    assert "below the smallest file these types can make" in capsys.readouterr().err
    assert not list(Path(tmp_path).rglob("manifest.json"))


def test_a_size_that_cannot_be_read_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    assert main(["--target-size", "big"]) == 2
    assert "'big' is not an amount of memory" in capsys.readouterr().err


def test_probes_score_whole_sequences(tiny_merged, tiny_run):
    config, examples = QuantizeConfig(), tiny_run / "train.jsonl"
    texts = budget_artifact.probe_texts(tiny_merged / "f16.gguf", config, examples)
    assert {len(text.prompt_token_ids) for text in texts} == {1}
    assert sum(len(text.response_token_ids) for text in texts) > 64


def test_labels_say_the_budget():
    assert label(BudgetConfig(target_size="700M")) == "fit_700m"
    assert label(BudgetConfig(target_bpw=4.5)) == "fit_4.5bpw"
