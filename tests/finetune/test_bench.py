"""The bench trains real steps in a process of its own and tells what it saw."""

import json
import subprocess
import sys

import pytest

from finetune.bench.command import run_bench, table
from finetune.bench.spec import Timing
from finetune.errors import ConfigError


def timing(contender, rate, losses=(3.0, 2.0)):
    return Timing(
        contender=contender,
        num_tokens=rate * 10,
        seconds=10.0,
        peak_bytes=2**31,
        losses_nats=list(losses),
    )


def test_the_table_gives_ratios_and_the_share_of_the_peak():
    text = table([timing("edgesmith", 1_000), timing("trl", 250)], 10**6, 1e11)
    assert "| edgesmith | 1,000 | 1.00 | 2.0 GiB | 4.0% | 2.0000 |" in text
    assert "| trl | 250 | 0.25 | 2.0 GiB | 1.0% | 2.0000 |" in text


def test_the_table_compares_losses_on_the_same_rows():
    both = [timing("edgesmith-rows", 10, (2.0, 1.0)), timing("trl-rows", 10, (2.0, 1.25))]
    assert "differ by 20.00% at most" in table(both, 1, 1.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--contenders", "nothing"], "unknown contender nothing; there are edgesmith"),
        (["--steps", "5", "--warmup", "5"], "--warmup 5 must lie between 1 and --steps 5"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_measured(words, message):
    with pytest.raises(ConfigError, match=message):
        run_bench(words)


@pytest.mark.slow
def test_a_contender_trains_and_reports_every_step(tiny_model, tmp_path):
    rows = [{"id": str(n), "input_ids": [5 + n] * 20, "labels": [5 + n] * 20} for n in range(12)]
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    spec = {
        "contender": "edgesmith",
        "weights": str(tiny_model),
        "rows": str(tmp_path / "rows.json"),
        "num_steps": 3,
        "warmup_steps": 1,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    files = [str(tmp_path / name) for name in ("spec.json", "result.json")]
    words = [sys.executable, "-m", "finetune.bench.contenders", *files]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "result.json").read_bytes())
    assert found["num_tokens"] == 2 * 4 * 20
    assert len(found["losses_nats"]) == 3
    assert found["seconds"] > 0
