"""The held-out loss at checkpoints: the best adapter is kept, and training that gains no more ends.

    checkpoint-N saved -> loss measured -> best-N kept when lowest -> logged -> others removed

The log is the memory: a resumed run reads it up to its checkpoint, so it decides as the
uninterrupted one would. Knows neither model nor trainer, only how to measure and to save.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from finetune import checkpoints
from finetune.processes import from_main, is_main
from finetune.run import Run


class HeldoutWatch:
    """Decides at checkpoints; `patience` counts those without a new lowest loss (0: any number)."""

    def __init__(
        self,
        run: Run,
        *,
        patience: int,
        keep_best: bool,
        measure: Callable[[], float],
        save: Callable[[Path], None],
    ) -> None:
        self.run = run
        self.patience = patience
        self.keep_best = keep_best
        self.measure = measure
        self.save = save
        self.losses: dict[int, float] = {}

    @property
    def is_on(self) -> bool:
        """Whether anything depends on the held-out loss."""
        return bool(self.keep_best or self.patience)

    @property
    def best_step(self) -> int | None:
        """The step with the lowest loss so far, the earliest of equals."""
        return min(self.losses, key=lambda step: (self.losses[step], step), default=None)

    @property
    def is_exhausted(self) -> bool:
        """Whether `patience` checkpoints have passed without a lower loss."""
        if not self.patience or self.best_step is None:
            return False
        return sum(step > self.best_step for step in self.losses) >= self.patience

    @property
    def best_folder(self) -> Path | None:
        """Where the best adapter lies, when it is kept."""
        if not self.keep_best or self.best_step is None:
            return None
        return self._folder(self.best_step)

    def resume(self, step: int) -> None:
        """Remember what was measured up to a checkpoint, whose weights the model has by now."""
        events = self.run.events("heldout_loss")
        self.losses = {
            event["step"]: event["loss_nats"]
            for event in events
            if event["moment"] == "checkpoint" and event["step"] <= step
        }
        self.checkpoint_saved(step)

    def checkpoint_saved(self, step: int) -> float | None:
        """Measure the weights of a checkpoint, once; return the loss."""
        if not self.is_on or step in self.losses:
            return None
        loss = from_main(self.measure() if is_main() else 0.0)
        is_best = all(loss < other for other in self.losses.values())
        self.losses[step] = loss
        if is_main():
            if self.keep_best and is_best:
                self._keep(step)
            self.run.log("heldout_loss", moment="checkpoint", step=step, loss_nats=loss)
            self._remove_others()
            note = ", the lowest so far" if is_best else ""
            print(f"held-out loss {loss:.4f} after step {step}{note}", file=sys.stderr)
        return loss

    def _keep(self, step: int) -> None:
        folder = self._folder(step)
        partial = folder.with_name(folder.name + ".partial")
        for leftover in (partial, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        self.save(partial)
        partial.rename(folder)

    def _remove_others(self) -> None:
        for folder in (self.run.path / checkpoints.FOLDER).glob("best-*"):
            if folder != self.best_folder:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, step: int) -> Path:
        return self.run.path / checkpoints.FOLDER / f"best-{step}"
