"""What one training is given and what it gives back.

Knows the names of its parts. Does nothing.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from finetune.config import TrainConfig
from finetune.data.preferences import Preferences
from finetune.data.prepare import Prepared
from finetune.data.tokens import Encoded
from finetune.run import Run


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What training did, in the units of the manifest."""

    heldout_response_loss_before_nats: float
    heldout_response_loss_after_nats: float
    final_train_loss_nats: float
    num_steps: int
    num_planned_steps: int
    best_step: int | None
    num_epochs: float
    rows_per_step: int
    row_tokens: int
    train_tokens: int
    train_seconds: float
    expected_peak_gpu_memory_bytes: int | None
    preference_figures: dict[str, float] = {}

    @property
    def train_tokens_per_second(self) -> float:
        """Real tokens, padding left out, per second of training."""
        return self.train_tokens / self.train_seconds if self.train_seconds else 0.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A model with LoRA layers, what it shall learn, and the run that records it."""

    fast_model: Any
    model: Any
    tokenizer: Any
    prepared: Prepared
    settings: TrainConfig
    run: Run
    pairs: Preferences | None = None

    @property
    def rows(self) -> Sequence[Encoded]:
        """What a step reads: examples, or both answers of pairs."""
        return (
            [pair.both for pair in self.pairs.train] if self.pairs else self.prepared.train.encoded
        )
