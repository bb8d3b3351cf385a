"""Preferences: the arithmetic, and a second stage that goes on with a run's adapter."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.preference_trainer import gains_nats, preference_loss_nats

SETTINGS = (
    "train.max_seq_length=128",
    "train.max_steps=6",
    "train.save_steps=2",
    "train.grad_accumulation=4",
    "train.learning_rate=0.02",
    "train.warmup_steps=0",
    "data.source=file",
    "data.licence=mit",
)


def test_nothing_gained_costs_the_logarithm_of_two():
    assert preference_loss_nats([0.0, 0.0], 0.1) == pytest.approx(math.log(2))
    assert preference_loss_nats([1.0], 2.0) == pytest.approx(-math.log(1 / (1 + math.exp(-2))))
    assert preference_loss_nats([-10_000.0], 1.0) == 10_000.0


def test_a_gain_is_counted_against_where_training_began():
    assert gains_nats([(-5.0, -3.0)], [(-4.0, -6.0)]) == [4.0]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def stages(tiny_model, tmp_path_factory):
    """A fine-tune and the preference stage on top of it: (home, words of the second, results)."""
    home = tmp_path_factory.mktemp("home")
    repository = Path(__file__).resolve().parents[2]
    answers = [{"prompt": f"add {n}", "completion": f"return a + {n}"} for n in range(12)]
    pairs = [{"prompt": f"add {n}", "chosen": "return a", "rejected": "no."} for n in range(30)]

    def train(data, *more):
        pairs = [*SETTINGS, f"base_model.ref={tiny_model}", f"data.path={data}", *more]
        words = [word for pair in pairs for word in ("--set", pair)]
        from os import environ

        environment = environ | {"EDGESMITH_HOME": str(home), "PYTHONPATH": str(repository)}
        done = subprocess.run(
            [sys.executable, "-m", "finetune", *words],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    first = train(write(home / "answers.jsonl", answers))
    more = (f"base_model.adapter={first}", "train.method=dpo", "train.keep_best=true")
    return first, train(write(home / "pairs.jsonl", pairs), *more)


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_preferred_answer_gains_on_the_rejected_one(stages):
    _, second = stages
    metrics = manifest_of(second)["metrics"]
    assert metrics["heldout_preference_loss_after_nats"] < math.log(2)
    assert metrics["heldout_preference_gain_nats"] > 0
    lines = (second / "log.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line) for line in lines]
    margins = [event["reward_margin"] for event in steps if event["event"] == "step"]
    assert margins[0] == pytest.approx(0, abs=1e-4)
    assert margins[-1] > 0
    losses = [event["loss_nats"] for event in steps if event["event"] == "step"]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)


@pytest.mark.slow
def test_it_starts_where_the_first_run_ended_and_leaves_one_adapter(stages):
    first, second = stages
    assert sorted(path.name for path in (second / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    from safetensors.numpy import load_file

    ours, theirs = (load_file(run / "adapter/adapter_model.safetensors") for run in (second, first))
    assert ours.keys() == theirs.keys()
    moved = max(float(abs(ours[name] - theirs[name]).max()) for name in ours)
    assert 0 < moved < 0.2


@pytest.mark.slow
def test_the_manifest_names_the_first_run_and_all_data(stages):
    first, second = stages
    manifest = manifest_of(second)
    assert [(entry["role"], entry["ref"]) for entry in manifest["inputs"]] == [
        ("base_model", "tiny-llama"),
        ("data", "pairs.jsonl"),
        ("finetune_run", first.name),
        ("data", "answers.jsonl"),
    ]
    assert manifest["config"]["train"]["method"] == "dpo"
    heldout = (second / "heldout.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["rejected"] for line in heldout} == {"no."}
