"""Checkpoints of an unfinished run: find the newest whole one, load its adapter, remove them all.

Knows the files that the trainer writes. Knows no training.
"""

import shutil
from pathlib import Path
from typing import Any

from finetune.run import Run

FOLDER = "checkpoints"


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that was written whole; its state file comes last."""
    found = [
        path
        for path in (folder / FOLDER).glob("checkpoint-*")
        if (path / "trainer_state.json").is_file() and (path / "optimizer.pt").is_file()
    ]
    return max(found, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


def figures_until(run: Run, checkpoint: Path | None) -> tuple[float, float | None]:
    """Return the seconds trained and the last loss when a checkpoint was written."""
    if checkpoint is None:
        return 0.0, None
    reached = step_of(checkpoint)
    events = [event for event in run.events("step") if event["step"] <= reached]
    seconds = max((event["elapsed_seconds"] for event in events), default=0.0)
    return float(seconds), events[-1]["loss_nats"] if events else None


def load_adapter(model: Any, folder: Path) -> None:
    """Put the adapter weights of a folder into a model that has such an adapter."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))


def remove_checkpoints(folder: Path) -> None:
    """Delete what only an unfinished run needs."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
