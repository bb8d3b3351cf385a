"""The whole stage on a tiny model: what a run holds, and what interruptions cannot do to it."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantize import build, run
from quantize.__main__ import main
from quantize.convert.merge import shard_names
from quantize.digest import sha256_file
from quantize.llama.gguf_header import read_header

SMALL = ["--set", "measure.scored_tokens=24", "--set", "measure.prefill_tokens=32"]
SMALL += ["--set", "measure.decode_tokens=4", "--set", "verify.num_prompts=2"]
SMALL += ["--set", "measure.text_tokens=24", "--set", "measure.prefill_rows=[32]"]
SMALL += ["--set", "measure.decode_sequences=[1, 2]", "--set", "measure.rounds=2"]
SMALL += ["--set", "measure.max_example_tokens=128", "--set", "measure.kv_types=['q8_0']"]
SMALL += ["--set", "verify.server=false"]
TYPES = ["--types", "f16,q8_0,q4_k_m"]


def quantize(home: Path, *arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its status and the path it printed."""
    import contextlib
    import io

    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("EDGESMITH_HOME", str(home))
        status = main(arguments)
    return status, out.getvalue().strip()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("quantize-home")


@pytest.fixture(scope="module")
def done(home, tiny_run) -> Path:
    status, printed = quantize(home, "--from", str(tiny_run), *TYPES, *SMALL)
    assert status == 0
    return Path(printed)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in folder.glob("*.gguf")}


def test_the_manifest_describes_every_file(done):
    manifest = json.loads((done / "manifest.json").read_text())
    assert manifest["run_id"] == done.name
    assert {output["role"] for output in manifest["outputs"]} == {
        "merged",
        "gguf",
        "imatrix",
        "chat_template",
        "heldout_examples",
    }
    for output in manifest["outputs"]:
        raw = (done / output["path"]).read_bytes()
        assert len(raw) == output["size_bytes"]
        assert hashlib.sha256(raw).hexdigest() == output["sha256"]
    assert manifest["versions"]["llama.cpp"] == "0c1e57098"
    assert not list(done.glob("*.partial"))
    events = [json.loads(line)["event"] for line in (done / "log.jsonl").read_text().splitlines()]
    assert events[0] == "merge the adapter into the base"


def test_the_merge_is_proven_in_the_manifest(done):
    metrics = json.loads((done / "manifest.json").read_text())["metrics"]
    assert metrics["merge_num_changed_tensors"] == 6
    assert metrics["merge_max_deviation_ulp"] < 0.51
    assert metrics["verify_f16_top1_agreement"] >= 0.97
    assert metrics["peak_memory_bytes"] > 100_000_000


def test_the_merge_equals_pefts(done, tiny_run, tiny_model):
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, tiny_run / "adapter").merge_and_unload().state_dict()
    (shard,) = shard_names(done / "merged")
    for name, mine in load_file(done / "merged" / shard).items():
        assert torch.allclose(mine.float(), theirs[name], atol=1e-3, rtol=1e-3), name


def test_files_carry_template_stop_token_and_provenance(done, tiny_run, tokenizer):
    template = (tiny_run / "chat_template.jinja").read_text()
    parent = {}
    for path in done.glob("*.gguf"):
        header = read_header(path)
        assert header.text("tokenizer.chat_template") == template
        assert header.metadata["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
        assert path.name == f"tiny-model-{header.text('edgesmith.quant.type')}.gguf"
        assert header.text("edgesmith.data.licences") == "PSF-2.0"
        parent[header.text("edgesmith.quant.type")] = header.text("edgesmith.parent.sha256")
    assert parent["q8_0"] == parent["q4_k_m"] == sha256_file(done / "tiny-model-f16.gguf")
    assert (done / "chat_template.jinja").read_text() == template


def test_figures_report_and_recommendation_stand_beside(done):
    document = json.loads((done / "measurements.json").read_text())
    assert [entry["file"] for entry in document["measurements"]] == [
        "tiny-model-f16.gguf",
        "tiny-model-q8_0.gguf",
        "tiny-model-q4_k_m.gguf",
    ]
    figures = document["measurements"][1]["figures"]
    assert figures["mean_kld_nats"] >= 0
    assert figures["bits_per_weight"] == pytest.approx(8.5, abs=0.05)
    assert figures["num_timings"] == 2
    low, middle, high = (figures[f"decode_tokens_per_second{end}"] for end in ("_low", "", "_high"))
    assert 0 < low <= middle <= high
    assert set(figures["decode_tokens_per_second_by_rows"]) == {"1", "2"}
    assert figures["text_mean_kld_nats"] >= 0
    assert figures["resident_bytes"] > figures["file_bytes"]
    reference = document["measurements"][0]["figures"]
    assert reference["kv_cache"]["q8_0"]["mean_kld_nats"] > 0
    assert "kv_cache" not in figures
    report = (done / "report.md").read_text()
    assert "tiny-model-q4_k_m.gguf" in report
    assert (done / "report.png").read_bytes().startswith(b"\x89PNG")
    chosen = json.loads((done / "recommendation.json").read_text())
    assert (done / "Modelfile").read_text().startswith(f"FROM ./{chosen['file']}\n")
    card = (done / "MODEL_CARD.md").read_text()
    assert 'license: "apache-2.0"' in card
    assert "<|im_start|>user" in card
    assert "tiny-model-q4_k_m.gguf" in card
    assert (done / chosen["file"]).is_file()


def test_the_same_command_prints_the_same_run_and_redoes_nothing(home, done, tiny_run):
    before = {path: path.stat().st_mtime_ns for path in done.glob("*.gguf")}
    measured = (done / "measurements.json").stat().st_mtime_ns
    assert quantize(home, "--from", str(tiny_run), *TYPES, *SMALL) == (0, str(done))
    assert {path: path.stat().st_mtime_ns for path in done.glob("*.gguf")} == before
    assert (done / "measurements.json").stat().st_mtime_ns == measured


def test_figures_of_another_machine_are_shown_as_such_and_not_reused(home, done, tiny_run):
    path = done / "measurements.json"
    document = json.loads(path.read_text())
    mine = len(document["measurements"])
    foreign = json.loads(json.dumps(document["measurements"][0]))
    foreign["machine"] |= {"id": "elsewhere", "cpu": "Other CPU"}
    path.write_text(json.dumps(document | {"measurements": [*document["measurements"], foreign]}))
    assert quantize(home, "--from", str(tiny_run), *TYPES, *SMALL) == (0, str(done))
    assert len(json.loads(path.read_text())["measurements"]) == mine + 1
    assert "Measured on another machine: Other CPU" in (done / "report.md").read_text()


def test_another_model_in_another_form_gives_the_same_bytes_again(home, done):
    source = done / "tiny-model-f16.gguf"
    first = quantize(home, "--from", str(source), "--types", "q4_0", "--no-measure")
    again = quantize(home, "--from", str(source), "--types", "q4_0", "--no-measure", "--force")
    assert first[0] == again[0] == 0
    assert first[1] != again[1]
    assert hashes(Path(first[1])) == hashes(Path(again[1]))
    assert set(hashes(Path(first[1]))) == {"tiny-model-f16.gguf", "tiny-model-q4_0.gguf"}


def test_a_folder_is_only_accepted_once_the_parity_gate_passed(home, tiny_model, capsys):
    arguments = ["--from", str(tiny_model), "--types", "f16", "--no-measure", *SMALL]
    status, printed = quantize(home, *arguments, "--set", "verify.max_mean_kld_nats=-1")
    assert (status, printed) == (1, "")
    assert "error: hop merged -> tiny-model-f16.gguf: logits:" in capsys.readouterr().err
    (begun,) = (
        path
        for path in (home / "runs" / "quantize").iterdir()
        if not (path / "manifest.json").exists()
    )
    assert quantize(home, *arguments) == (0, str(begun))
    assert "resuming" in capsys.readouterr().err


@pytest.mark.parametrize("moment", ["*-f16.gguf.raw.partial", "*-q8_0.gguf*partial"])
def test_killed_at_any_moment_it_resumes_to_the_same_bytes(done, tiny_run, tmp_path, moment):
    command = [sys.executable, "-m", "quantize", "--from", str(tiny_run), *TYPES]
    command += ["--no-measure", "--no-verify"]
    env = os.environ | {"EDGESMITH_HOME": str(tmp_path)}
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not list(tmp_path.glob(f"runs/quantize/*/{moment}")):
        assert time.monotonic() < deadline
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (begun,) = (tmp_path / "runs" / "quantize").iterdir()
    if (begun / "manifest.json").exists():
        pytest.skip("the process was faster than the kill")
    arguments = ["--from", str(tiny_run), *TYPES, "--no-measure", "--no-verify"]
    assert quantize(tmp_path, *arguments) == (0, str(begun))
    assert hashes(begun) == hashes(done)
    assert not list(begun.glob("*.partial"))


def test_a_full_disk_is_told_before_the_work_with_the_numbers(
    tiny_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("quantize.space.shutil.disk_usage", lambda _path: usage)
    assert quantize(tmp_path, "--from", str(tiny_run))[0] == 2
    assert re.search(r"needs \d+ MB .* 1 MB are free", capsys.readouterr().err)
    assert run.newest_complete("quantize") is None


def test_a_disk_that_fills_up_while_writing_leaves_nothing_accepted(
    done, tmp_path, monkeypatch, capsys
):
    def half_written(_source, target, *_arguments, **_options):
        target.write_bytes(b"GGUF" + bytes(100))

    monkeypatch.setattr(build, "quantize_file", half_written)
    source = done / "tiny-model-f16.gguf"
    assert quantize(tmp_path, "--from", str(source), "--types", "q4_0")[0] == 2
    assert "GGUF version 0" in capsys.readouterr().err
    (begun,) = (tmp_path / "runs" / "quantize").iterdir()
    assert not (begun / "manifest.json").exists()
    assert not (begun / "tiny-model-q4_0.gguf").exists()
    monkeypatch.undo()
    assert quantize(tmp_path, "--from", str(source), "--types", "q4_0", "--no-measure") == (
        0,
        str(begun),
    )


def test_a_tokenizer_the_converter_would_misread_is_refused(tiny_model, tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["byte_fallback"] = True
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert quantize(tmp_path, "--from", str(folder), "--types", "f16")[0] == 2
    assert "SentencePiece" in capsys.readouterr().err


def test_a_tokenizer_the_converter_does_not_know_is_named_as_the_reason(
    tiny_model, tmp_path, capsys
):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    odd = {"type": "Split", "pattern": {"String": "e"}, "behavior": "Isolated", "invert": False}
    tokenizer["pre_tokenizer"]["pretokenizers"].insert(0, odd)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert quantize(tmp_path, "--from", str(folder), "--types", "f16")[0] == 2
    assert "does not know the tokenizer of" in capsys.readouterr().err


@pytest.mark.parametrize("value", [b"\x00\x7e", b"\x00\xfc"], ids=["NaN", "infinity"])
def test_a_gguf_with_a_number_that_is_none_is_refused_with_the_tensor(
    done, tmp_path, capsys, value
):
    source = tmp_path / "broken.gguf"
    header = read_header(done / "tiny-model-f16.gguf")
    raw = bytearray(header.path.read_bytes())
    tensor = next(t for t in header.tensors if t.name == "blk.1.ffn_up.weight")
    place = header.data_offset + tensor.offset + 64
    raw[place : place + 2] = value
    source.write_bytes(raw)
    assert quantize(tmp_path, "--from", str(source), "--types", "q4_0")[0] == 2
    assert "tensor blk.1.ffn_up.weight holds 1 values that are NaN" in capsys.readouterr().err


def test_a_model_the_converter_does_not_know_quotes_its_words(tiny_model, tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in tiny_model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchModel"]}))
    assert quantize(tmp_path, "--from", str(folder), "--types", "f16")[0] == 2
    assert "NoSuchModel is not supported" in capsys.readouterr().err


def test_recommend_prints_the_file_or_says_what_to_give_up(home, done, capsys):
    status, printed = quantize(home, "recommend", str(done), "--ram", "4G", "--context", "512")
    assert status == 0
    assert Path(printed).parent == done
    kept = [(done / name).read_bytes() for name in ("recommendation.json", "report.md")]
    assert json.loads(kept[0])["ram_bytes"] == 4 << 30
    assert json.loads(kept[0])["context_tokens"] == 512
    assert quantize(home, "recommend", str(done), "--ram", "10M") == (1, "")
    said = capsys.readouterr().err
    assert "nothing fits" in said
    assert "the earlier recommendation stays" in said
    assert [(done / name).read_bytes() for name in ("recommendation.json", "report.md")] == kept


def test_an_adapter_beside_the_base_is_compared_with_merged_type_by_type(home, done):
    status, printed = quantize(home, "adapter", "--compare", str(done))
    assert (status, printed) == (0, str(done / "adapter_comparison.json"))
    document = json.loads((done / "adapter_comparison.json").read_text())
    by_type = {each["quant_type"]: each for each in document["comparisons"]}
    assert list(by_type) == ["f16", "q8_0", "q4_k_m"]
    assert by_type["f16"]["merged_mean_kld_nats"] == 0
    assert by_type["f16"]["adapter_mean_kld_nats"] < 1e-4
    for name in ("q8_0", "q4_k_m"):
        ways = [by_type[name][f"{way}_mean_kld_nats"] for way in ("merged", "adapter")]
        assert 0 < min(ways) <= max(ways) < 3 * min(ways)
    assert "## Adapter beside the base, or merged" in (done / "report.md").read_text()
    assert not list(done.glob("*.partial"))
