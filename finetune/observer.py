"""Watching a trainer: log each step, show it, stop on a signal or a loss that is not finite.

Knows the trainer's callback interface. Changes nothing about what is learnt. Of several processes
only the main one logs.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from finetune.best import HeldoutWatch
from finetune.errors import TrainingError
from finetune.processes import is_main
from finetune.progress import Progress, StepFigures
from finetune.run import Run
from finetune.steps import Schedule
from finetune.stopping import StopWish

Report = Callable[[dict[str, float]], None]


class Observer:
    """Turns trainer events into log lines, progress and stops."""

    def __init__(
        self,
        run: Run,
        progress: Progress,
        wish: StopWish,
        schedule: Schedule,
        *,
        seconds_before: float = 0.0,
    ) -> None:
        self.run = run
        self.progress = progress
        self.wish = wish
        self.schedule = schedule
        self.seconds_before = seconds_before
        self.total_seconds = seconds_before
        self.started = time.monotonic()
        self.first_step = 0
        self.last_loss = math.nan
        self.reached = 0
        self.non_finite_step: int | None = None

    def resume(self, step: int, last_loss: float | None) -> None:
        """Take over where an earlier session stopped."""
        self.reached = step
        self.last_loss = math.nan if last_loss is None else last_loss

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep what is done in here out of the training time."""
        start = time.monotonic()
        yield
        self.started += time.monotonic() - start

    def begin(self, state: Any) -> None:
        """Note where this session starts, which is not step 0 after a resume."""
        self.started = time.monotonic()
        self.first_step = state.global_step

    def log(self, event: str, **figures: Any) -> None:
        """Append to the run's log, from the main process only."""
        if is_main():
            self.run.log(event, **figures)

    def step_logged(self, logs: dict[str, Any], state: Any) -> None:
        """Record one logged step; the trainer's closing summary has no loss and is skipped."""
        if "loss" not in logs:
            return
        session = time.monotonic() - self.started
        loss = float(logs["loss"])
        tokens = self.schedule.tokens_until(state.global_step)
        rate = (tokens - self.schedule.tokens_until(self.first_step)) / session
        self.last_loss = loss
        self.log(
            "step",
            step=state.global_step,
            loss_nats=loss if math.isfinite(loss) else None,
            learning_rate=logs.get("learning_rate"),
            grad_norm=_finite(logs.get("grad_norm")),
            num_tokens=tokens,
            tokens_per_second=rate,
            elapsed_seconds=self.seconds_before + session,
            **({"reward_margin": logs["rewards/margins"]} if "rewards/margins" in logs else {}),
        )
        if not math.isfinite(loss):
            self.non_finite_step = state.global_step
            self.log("non_finite_loss", step=state.global_step, examples=self._examples())
            return
        remaining = state.max_steps - state.global_step
        per_step = session / max(1, state.global_step - self.first_step)
        self.progress.show(
            StepFigures(
                step=state.global_step,
                num_steps=state.max_steps,
                loss=loss,
                tokens_per_second=rate,
                eta_seconds=remaining * per_step,
            )
        )

    def step_ended(self, control: Any, state: Any) -> None:
        """Count time and steps; grant a wish to stop: save a checkpoint and leave the loop."""
        self.reached = state.global_step
        self.total_seconds = self.seconds_before + time.monotonic() - self.started
        if self.wish.signal_number is not None:
            control.should_save = True
            control.should_training_stop = True

    def raise_non_finite(self) -> None:
        """Raise when a step's loss was not a number."""
        if self.non_finite_step is None:
            return
        lines = [index + 1 for index in self._examples()]
        some = ", ".join(str(line) for line in lines[:8]) + (", ..." if len(lines) > 8 else "")
        raise TrainingError(
            f"the loss stopped being a finite number at step {self.non_finite_step} (lines {some} "
            f"of {self.run.path / 'train.jsonl'}; all {len(lines)} are in log.jsonl): lower "
            "train.learning_rate or train.max_grad_norm, or look at these examples"
        )

    def _examples(self) -> list[int]:
        """Return the positions of the examples in the step whose loss is no number."""
        rows = self.schedule.rows_of(self.non_finite_step or 1)
        return sorted(index for row in rows for index in row.examples)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def make_callback(observer: Observer, watch: HeldoutWatch, report: Report) -> Any:
    """Wrap observer and watch for the trainer; the base class needs transformers, imported late.

    `report` passes figures on to the loggers.
    """
    from transformers import TrainerCallback

    class Callback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Forwards the trainer's events."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  # the interface
            observer.begin(state)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002  # the interface
            observer.step_logged(logs or {}, state)
            if observer.non_finite_step is not None:
                control.should_training_stop = True
                control.should_save = False

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  # the interface
            observer.step_ended(control, state)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  # the interface
            if observer.wish.signal_number is not None:
                return  # a resumed run measures this checkpoint; now there may be no time
            with observer.paused():
                loss = watch.checkpoint_saved(state.global_step)
            if loss is not None:
                report({"heldout_loss": loss})
            if watch.is_exhausted:
                control.should_training_stop = True

    return Callback()
