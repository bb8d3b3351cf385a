"""The shape of this run's steps on this machine: packed or not, row length, checkpointing.

    CPU, or packing off      one example a row, as configured
    GPU                      rows as long as free memory allows, activations kept if they fit

Knows configuration and measured row costs. Knows no trainer.
"""

import sys
from typing import Any

import msgspec

from finetune.config import TrainConfig
from finetune.data.prepare import Side
from finetune.errors import TrainingError
from finetune.isolation import keeps_examples_apart
from finetune.libraries import gpu_name
from finetune.memory_probe import LONG, RowCosts, probe
from finetune.model import set_checkpointing
from finetune.packed_attention import enable_packed_attention
from finetune.processes import from_main, num_processes
from finetune.steps import StepShape, packed_shape, step_tokens, unpacked_shape


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided and, where it was measured, why."""

    shape: StepShape
    gradient_checkpointing: bool
    costs: RowCosts | None = None

    @property
    def expected_bytes(self) -> int | None:
        """The expected peak of GPU memory, None where it was not measured."""
        return round(self.costs.bytes_of(self.shape.row_tokens)) if self.costs else None

    def describe(self) -> str:
        """Say in one line what a step is and what it should cost."""
        if not self.shape.row_tokens:
            return f"{self.shape.rows_per_step} examples a step, not packed"
        kept = "computed again in the backward pass" if self.gradient_checkpointing else "kept"
        line = (
            f"{self.shape.rows_per_step} packed rows of {self.shape.row_tokens:,} tokens a step, "
            f"activations {kept}"
        )
        if self.costs is None:
            return line
        return (
            f"{line}; expected {self.costs.bytes_of(self.shape.row_tokens) / 2**30:.1f} GiB of "
            f"{self.costs.usable_bytes / 2**30:.1f} usable, at least "
            f"{self.costs.tokens_per_second:,.0f} tokens/s (measured on {LONG:,}-token rows)"
        )


def is_packed(settings: TrainConfig) -> bool:
    """Whether examples share rows: as configured, by default on a GPU; pairs never do."""
    on_gpu = gpu_name() is not None
    if settings.packing is True and not on_gpu:
        print("train.packing needs a GPU; training unpacked", file=sys.stderr)
    return on_gpu and settings.packing is not False and settings.method == "sft"


def decide(fast_model: Any, model: Any, side: Side, settings: TrainConfig) -> Decision:
    """Choose the step's shape and set the model's checkpointing accordingly.

    Raises:
        TrainingError: not even a short row fits into the GPU's memory.
    """
    if not is_packed(settings):
        return _unpacked(fast_model, model, settings)
    enable_packed_attention()
    if not from_main(keeps_examples_apart(model)):
        print(
            "examples would see each other in this model's packed rows; training unpacked",
            file=sys.stderr,
        )
        return _unpacked(fast_model, model, settings)
    longest = max(row.num_tokens for row in side.encoded)
    costs, checkpointing = _measure(fast_model, model, settings, longest)
    limit = settings.row_tokens or costs.max_row_tokens
    wanted = step_tokens(settings, side.num_tokens)
    shape = packed_shape(
        wanted, max_row_tokens=limit, longest=longest, num_processes=num_processes()
    )
    return from_main(Decision(shape=shape, gradient_checkpointing=checkpointing, costs=costs))


def _unpacked(fast_model: Any, model: Any, settings: TrainConfig) -> Decision:
    checkpointing = settings.gradient_checkpointing is True
    set_checkpointing(fast_model, model, enabled=checkpointing)
    return Decision(shape=unpacked_shape(settings), gradient_checkpointing=checkpointing)


def _measure(
    fast_model: Any, model: Any, settings: TrainConfig, longest: int
) -> tuple[RowCosts, bool]:
    """Probe with activations kept, and again without when those leave no room for one row."""
    choices = [settings.gradient_checkpointing]
    if settings.gradient_checkpointing == "auto":
        choices = [False, True]
    for checkpointing in choices:
        set_checkpointing(fast_model, model, enabled=bool(checkpointing))
        costs = from_main(probe(model))
        if costs is not None and costs.max_row_tokens >= longest:
            return costs, bool(checkpointing)
    raise TrainingError(
        f"a row of {longest:,} tokens, the longest example, does not fit into this GPU's memory: "
        "lower train.max_seq_length, or set train.load_in_4bit or train.gradient_checkpointing"
    )
