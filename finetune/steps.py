"""How many rows make an optimizer step, how long they are, and which steps a run takes.

Knows counts of tokens and of processes. Knows no trainer and no GPU.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import msgspec

from finetune.config import TrainConfig
from finetune.data.packing import Row, rows_of_epochs
from finetune.data.tokens import Encoded
from finetune.errors import ConfigError

MIN_STEP_TOKENS = 2_048
MAX_STEP_TOKENS = 32_768
STEPS_WANTED = 64  # fewer, larger steps are faster on a GPU but learn less from the same tokens
ROW_MULTIPLE = 256


class StepShape(msgspec.Struct, frozen=True, kw_only=True):
    """A step is `rows_per_step` rows over all processes; `row_tokens` 0 means not packed."""

    row_tokens: int
    rows_per_step: int

    def halved(self, longest: int) -> "StepShape | None":
        """Return the same step in twice as many rows of half the length, or None at the end."""
        row_tokens = _rounded(max(self.row_tokens // 2, longest))
        if not self.row_tokens or row_tokens >= self.row_tokens:
            return None
        return StepShape(row_tokens=row_tokens, rows_per_step=self.rows_per_step * 2)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a run in order; `tokens_before[n]` counts the real tokens of the first n."""

    shape: StepShape
    rows: list[Row]
    tokens_before: list[int]
    num_steps: int
    rows_per_epoch: int

    def rows_of(self, step: int) -> list[Row]:
        """Return the rows of a step, counted from 1 as the trainer counts."""
        first = (step - 1) * self.shape.rows_per_step
        return self.rows[first : first + self.shape.rows_per_step]

    def tokens_until(self, step: int) -> int:
        """Return the real tokens of all steps up to and including one."""
        return self.tokens_before[min(step * self.shape.rows_per_step, len(self.rows))]

    def epochs_until(self, step: int) -> float:
        """Return how often the training set was read by then."""
        rows = min(step * self.shape.rows_per_step, len(self.rows))
        return rows / self.rows_per_epoch


def step_tokens(settings: TrainConfig, num_tokens: int) -> int:
    """Return the tokens of one packed step: as configured, or such that a run has enough steps."""
    if settings.step_tokens:
        return settings.step_tokens
    total = num_tokens * settings.epochs
    return int(min(MAX_STEP_TOKENS, max(MIN_STEP_TOKENS, total / STEPS_WANTED)))


def packed_shape(
    wanted: int, *, max_row_tokens: int, longest: int, num_processes: int
) -> StepShape:
    """Split a step of `wanted` tokens into equal rows of at most `max_row_tokens`."""
    limit = max(max_row_tokens, longest)
    rows = max(num_processes, math.ceil(wanted / limit))
    rows = math.ceil(rows / num_processes) * num_processes
    return StepShape(row_tokens=_rounded(max(wanted / rows, longest)), rows_per_step=rows)


def _rounded(tokens: float) -> int:
    return math.ceil(tokens / ROW_MULTIPLE) * ROW_MULTIPLE


def unpacked_shape(settings: TrainConfig) -> StepShape:
    """Return the step of a run in which each example has its own row."""
    return StepShape(row_tokens=0, rows_per_step=settings.batch_size * settings.grad_accumulation)


def make_schedule(
    encoded: Sequence[Encoded], settings: TrainConfig, shape: StepShape, *, pad_id: int
) -> Schedule:
    """Lay out the rows of all steps; the last step of a run may have fewer rows."""
    epochs = rows_of_epochs(encoded, row_tokens=shape.row_tokens, pad_id=pad_id, seed=settings.seed)
    first = next(epochs)
    wanted = settings.max_steps * shape.rows_per_step or max(1, round(len(first) * settings.epochs))
    rows = first
    while len(rows) < wanted:
        rows = [*rows, *next(epochs)]
    return Schedule(
        shape=shape,
        rows=rows[:wanted],
        tokens_before=list(accumulate((row.num_tokens for row in rows[:wanted]), initial=0)),
        num_steps=math.ceil(wanted / shape.rows_per_step),
        rows_per_epoch=len(first),
    )


def per_process(shape: StepShape, num_processes: int) -> int:
    """Return the rows of a step that one process computes.

    Raises:
        ConfigError: the rows cannot be shared out evenly.
    """
    if shape.rows_per_step % num_processes:
        raise ConfigError(
            f"a step of this run has {shape.rows_per_step} rows, which {num_processes} processes "
            "cannot share evenly; use a number of GPUs that divides it"
        )
    return shape.rows_per_step // num_processes
