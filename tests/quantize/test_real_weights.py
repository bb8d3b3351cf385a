"""The packaged model's own file: requantized, measured on real text, and warned about."""

import json
from pathlib import Path

import pytest

from quantize.__main__ import main

pytestmark = pytest.mark.weights


def test_the_packaged_model_is_requantized_measured_and_warned_about(
    smollm2_gguf, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("EDGESMITH_HOME", str(tmp_path))
    arguments = ["--from", str(smollm2_gguf), "--types", "q8_0"]
    arguments += ["--set", "measure.scored_tokens=96", "--set", "measure.max_example_tokens=96"]
    arguments += ["--set", "measure.prefill_tokens=64", "--set", "measure.decode_tokens=8"]
    arguments += ["--set", "measure.text_tokens=96", "--set", "measure.rounds=1"]
    arguments += ["--set", "measure.kv_types=['q8_0']"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "already quantized (Q4_1)" in captured.err
    run = Path(captured.out.strip())
    source, requantized = json.loads((run / "measurements.json").read_text())["measurements"]
    assert source["file"] == "SmolLM2-135M-Instruct-q4_1.gguf"
    assert 1 < source["figures"]["perplexity"] < 30
    assert requantized["figures"]["mean_kld_nats"] < 0.05
    assert requantized["figures"]["top1_agreement"] > 0.9
    assert source["figures"]["kv_cache"]["q8_0"]["mean_kld_nats"] < 0.05
    verified = json.loads((run / "verification.json").read_text())
    assert verified["passed"]
    assert "greedy text" in {check["name"] for check in verified["checks"]}
    assert "came out of a Q4_1 file" in (run / "report.md").read_text()
