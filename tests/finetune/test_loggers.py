"""Loggers write into the run, and an absent one is refused beforehand."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from finetune import arguments, loggers
from finetune.config import TrainConfig
from finetune.errors import ConfigError
from finetune.steps import StepShape

ROOT = str(Path(loggers.__file__).parents[1])


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


LOG_THREE_STEPS = """
import importlib, sys
from pathlib import Path

from torch.nn import Linear
from transformers import TrainerControl, TrainerState, TrainingArguments

from finetune import loggers

name, run = sys.argv[1], Path(sys.argv[2])
arguments = TrainingArguments(
    output_dir=str(run / "checkpoints"), report_to="none", project="edgesmith", run_name="a run"
)
state, control, model = TrainerState(is_world_process_zero=True), TrainerControl(), Linear(1, 1)
(callback,) = loggers.make_callbacks([name], run, first_step=1)
callback.on_train_begin(arguments, state, control, model=model)
for state.global_step in (1, 2, 3):
    callback.on_log(arguments, state, control, logs={"loss": 1.0}, model=model)
importlib.import_module(name).finish()
"""


@pytest.mark.parametrize(
    ("name", "written"),
    [("wandb", "logs/wandb/offline-run-*/run-*.wandb"), ("trackio", "logs/trackio/*.db")],
)
def test_an_installed_logger_writes_into_the_run_and_nowhere_else(name, written, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    run, here = tmp_path / "run", tmp_path / "here"
    run.mkdir()
    here.mkdir()
    kept = {key: value for key, value in os.environ.items() if "WANDB" not in key}
    subprocess.run(
        [sys.executable, "-c", LOG_THREE_STEPS, name, str(run)],
        env=kept | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join([ROOT, *sys.path])},
        cwd=here,
        check=True,
        timeout=120,
    )
    assert list(run.glob(written))
    assert not list(here.iterdir())


@pytest.mark.parametrize("mode", [None, "online"])
def test_wandb_stays_on_this_machine_unless_its_user_says_otherwise(mode, tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__init__.py").write_text("run = None\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(os, "environ", {} if mode is None else {"WANDB_MODE": mode})
    loggers.make_callbacks(["wandb"], tmp_path, first_step=1)
    monkeypatch.delitem(sys.modules, "wandb")
    assert os.environ["WANDB_MODE"] == (mode or "offline")
    assert os.environ["WANDB_DIR"] == str(tmp_path / "logs")
