"""TensorBoard, Weights & Biases and Trackio beside the run's own log, all writing into the run.

Nothing leaves the machine unless the user's environment says so. Knows the trainer's callbacks of
these three, no figures.
"""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.errors import ConfigError

FOLDER = "logs"
REMEDY = {
    "tensorboard": "pip install 'edgesmith[finetune]'",
    "wandb": "pip install wandb",
    "trackio": "pip install trackio",
}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse a logger that is not installed before anything is trained.

    Raises:
        ConfigError: names it and how to get it.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"train.loggers names {name}, which is not installed: {REMEDY[name]}, or take it "
                "out of the list"
            )


def make_callbacks(names: Sequence[str], run: Path, *, first_step: int) -> list[Any]:
    """Return the trainer's callbacks; what TensorBoard saw from `first_step` on is superseded."""
    folder = run / FOLDER
    makers = {
        "tensorboard": lambda: _tensorboard(folder / "tensorboard", first_step),
        "wandb": lambda: _wandb(folder),
        "trackio": lambda: _trackio(folder / "trackio"),
    }
    return [makers[name]() for name in names]


def _tensorboard(folder: Path, first_step: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    return TensorBoardCallback(SummaryWriter(str(folder), purge_step=first_step))


def _wandb(folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_PROJECT", "edgesmith")
    os.environ.setdefault("WANDB_DIR", str(folder))
    from transformers.integrations import WandbCallback

    return WandbCallback()


def _trackio(folder: Path) -> Any:
    os.environ.setdefault("TRACKIO_DIR", str(folder))
    from transformers.integrations import TrackioCallback

    return TrackioCallback()
