"""Loggers write into the run, and an absent one is refused beforehand."""

from types import SimpleNamespace

import pytest

from finetune import arguments, loggers
from finetune.config import TrainConfig
from finetune.errors import ConfigError
from finetune.steps import StepShape


def test_an_absent_logger_is_refused_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="names wandb, which is not installed: pip install wandb"):
        loggers.check_loggers(["wandb"])


def read_scalars(folder, name):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def log_steps(run, losses, *, first_step):
    (callback,) = loggers.make_callbacks(["tensorboard"], run, first_step=first_step)
    for step, loss in losses.items():
        state = SimpleNamespace(is_world_process_zero=True, global_step=step)
        callback.on_log(None, state, None, logs={"loss": loss})
    callback.on_train_end(None, None, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_resumed_curve_replaces_the_steps_after_its_checkpoint(tmp_path):
    log_steps(tmp_path, {1: 3.0, 2: 2.0, 3: 1.0}, first_step=1)
    log_steps(tmp_path, {3: 1.5, 4: 0.5}, first_step=3)
    found = read_scalars(tmp_path / "logs" / "tensorboard", "train/loss")
    assert found == [(1, 3.0), (2, 2.0), (3, 1.5), (4, 0.5)]


def test_loggers_show_a_run_under_its_own_name(tmp_path):
    shape = StepShape(row_tokens=0, rows_per_step=4)
    given = arguments._shared(
        TrainConfig(),
        SimpleNamespace(gradient_checkpointing=False),
        SimpleNamespace(shape=shape, num_steps=3),
        tmp_path / "20260101T000000Z-00000000",
        num_processes=1,
    )
    assert (given["project"], given["run_name"]) == ("edgesmith", "20260101T000000Z-00000000")
