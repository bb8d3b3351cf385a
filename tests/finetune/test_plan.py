"""What is said before a run about the time it will take."""

import pytest

from finetune import plan
from finetune.config import Config, TrainConfig


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(plan.shutil, "which", lambda name: None)
    monkeypatch.setattr(plan.os, "cpu_count", lambda: 2)


@pytest.mark.usefixtures("two_cores")
def test_the_measured_model_takes_what_was_measured():
    said = plan._estimate(tokens=20_000, num_parameters=135_000_000)
    assert said == "about 4.6 minutes of training on this CPU (72 tokens/s)"


@pytest.mark.usefixtures("two_cores")
def test_a_toy_model_gets_no_estimate():
    assert plan._estimate(tokens=20_000, num_parameters=20_000) == "none for a model this small"


def test_a_gpu_is_measured_first(monkeypatch):
    monkeypatch.setattr(plan.shutil, "which", lambda name: f"/usr/bin/{name}")
    said = plan._estimate(tokens=20_000, num_parameters=135_000_000)
    assert said == "none before the first steps on a GPU"


def test_a_run_of_some_steps_reads_its_share_of_the_tokens():
    train = TrainConfig(max_steps=6, batch_size=1, grad_accumulation=4)
    assert plan.planned_tokens(Config(train=train), per_epoch=1000, num_examples=48) == 500
    train = TrainConfig(epochs=2.0)
    assert plan.planned_tokens(Config(train=train), per_epoch=1000, num_examples=48) == 2000
