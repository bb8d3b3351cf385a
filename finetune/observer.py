"""Watching a trainer: log each step, show it, stop on a signal or a loss that is not finite.

Knows the trainer's callback interface. Changes nothing about what is learnt.
"""

import math
import time
from typing import Any

from finetune.errors import TrainingError
from finetune.progress import Progress, StepFigures
from finetune.run import Run
from finetune.stopping import StopWish


class Observer:
    """Turns trainer events into log lines, progress and stops."""

    def __init__(
        self, run: Run, progress: Progress, wish: StopWish, *, seconds_before: float
    ) -> None:
        self.run = run
        self.progress = progress
        self.wish = wish
        self.seconds_before = seconds_before
        self.total_seconds = seconds_before
        self.started = time.monotonic()
        self.first_step = 0
        self.first_tokens = 0
        self.non_finite_step: int | None = None

    def begin(self, state: Any) -> None:
        """Note where this session starts, which is not step 0 after a resume."""
        self.started = time.monotonic()
        self.first_step = state.global_step
        self.first_tokens = state.num_input_tokens_seen

    def step_logged(self, logs: dict[str, Any], state: Any) -> None:
        """Record one logged step; the trainer's closing summary has no loss and is skipped."""
        if "loss" not in logs:
            return
        session = time.monotonic() - self.started
        loss = float(logs["loss"])
        rate = (state.num_input_tokens_seen - self.first_tokens) / session
        self.run.log(
            "step",
            step=state.global_step,
            loss_nats=loss if math.isfinite(loss) else None,
            learning_rate=logs.get("learning_rate"),
            grad_norm=_finite(logs.get("grad_norm")),
            num_tokens=int(state.num_input_tokens_seen),
            tokens_per_second=rate,
            elapsed_seconds=self.seconds_before + session,
        )
        if not math.isfinite(loss):
            self.non_finite_step = state.global_step
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

    def step_ended(self, control: Any) -> None:
        """Count the time; grant a wish to stop: save a checkpoint and leave the loop."""
        self.total_seconds = self.seconds_before + time.monotonic() - self.started
        if self.wish.signal_number is not None:
            control.should_save = True
            control.should_training_stop = True

    def raise_non_finite(self) -> None:
        """Raise when a step's loss was not a number."""
        if self.non_finite_step is not None:
            raise TrainingError(
                f"the loss stopped being a finite number at step {self.non_finite_step}: lower "
                "train.learning_rate or train.max_grad_norm"
            )


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def make_callback(observer: Observer) -> Any:
    """Wrap an observer for the trainer; the base class needs transformers, imported late."""
    from transformers import TrainerCallback

    class Callback(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
        """Forwards the trainer's events to an observer."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  # the interface
            observer.begin(state)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002  # the interface
            observer.step_logged(logs or {}, state)
            if observer.non_finite_step is not None:
                control.should_training_stop = True
                control.should_save = False

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002  # the interface
            observer.step_ended(control)

    return Callback()
