"""The main job on real weights: train a few steps, quantize two types, serve, ask.

Every stage runs as its command, as a user would run it; only files and HTTP are looked at.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import openai
import pytest

pytestmark = [pytest.mark.weights, pytest.mark.slow]

FEW_STEPS = (
    "data.max_train_tokens=1500",
    "data.max_heldout_examples=4",
    "train.max_seq_length=192",
    "train.grad_accumulation=2",
)
FEW_FIGURES = (
    "measure.scored_tokens=128",
    "measure.text_tokens=256",
    "measure.rounds=1",
    "measure.kv_types=[]",
)
QUESTION = "Write the Python function described here.\n\nReturn the sum of two numbers."


def run_stage(*words: str, home: Path) -> str:
    """Run `python -m ...`; return the last line of stdout."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, "EDGESMITH_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def read(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def home(tmp_path_factory, smollm2_gguf):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def finetune_run(home):
    overrides = [word for item in FEW_STEPS for word in ("--set", item)]
    return Path(run_stage("finetune", *overrides, home=home))


def quantize(home):
    overrides = [word for item in FEW_FIGURES for word in ("--set", item)]
    return Path(run_stage("quantize", "--types", "f16,q8_0", *overrides, home=home))


@pytest.fixture(scope="module")
def quantize_run(home, finetune_run):
    return quantize(home)


@pytest.fixture(scope="module")
def base_url(home, quantize_run):
    """A server with no --model: it must find the recommended file of the newest run."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "serve", "--port", str(port), "--context-length", "2048"],
        env={**os.environ, "EDGESMITH_HOME": str(home)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", server)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)


def wait_until_healthy(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, server.stderr.read()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"{url} did not answer within two minutes")


def test_training_lowers_the_heldout_loss(finetune_run):
    metrics = read(finetune_run / "manifest.json")["metrics"]
    before = metrics["heldout_response_loss_before_nats"]
    assert metrics["heldout_response_loss_after_nats"] < before


def test_quantizing_gives_a_measured_file_of_each_type(quantize_run):
    outputs = read(quantize_run / "manifest.json")["outputs"]
    names = [entry["path"] for entry in outputs if entry["role"] == "gguf"]
    assert {name.rsplit("-", 1)[1] for name in names} == {"f16.gguf", "q8_0.gguf"}
    measured = {entry["file"] for entry in read(quantize_run / "measurements.json")["measurements"]}
    assert measured == set(names)
    assert read(quantize_run / "recommendation.json")["file"] in names


def test_the_parity_gate_passed_and_the_adapter_shows(quantize_run):
    verification = read(quantize_run / "verification.json")
    assert verification["passed"]
    checks = {check["name"]: check["detail"] for check in verification["checks"]}
    assert {"greedy continuations", "prompts and token ids", "adapter's effect"} <= checks.keys()
    assert verification["merge"]["num_changed_tensors"] == 210  # 7 linear layers in 30 blocks


def test_same_inputs_are_not_worked_on_twice(home, finetune_run, quantize_run):
    assert quantize(home) == quantize_run


def test_the_openai_sdk_gets_an_answer_and_its_usage(base_url):
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": QUESTION}], max_tokens=24, temperature=0
    )
    assert reply.choices[0].message.content.strip()
    assert reply.usage.completion_tokens <= 24
    client.close()


def test_streaming_gives_the_same_text_as_not_streaming(base_url):
    client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0)
    ask = {
        "model": "any",
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 24,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**ask).choices[0].message.content
    with client.chat.completions.create(**ask, stream=True) as stream:
        pieces = [c.choices[0].delta.content or "" for c in stream if c.choices]
    assert "".join(pieces) == whole
    client.close()
