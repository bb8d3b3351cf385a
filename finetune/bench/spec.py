"""What a contender is told and what it answers: the two JSON files between bench and child.

Knows no library.
"""

import msgspec


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """One contender's task: a model folder, tokenized rows, and how many steps."""

    contender: str
    weights: str
    rows: str
    num_steps: int
    warmup_steps: int
    settings: dict[str, int | bool | str] = {}


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender did; tokens are real ones, padding left out.

    `seconds` and `num_tokens` cover the steps after the warm-up; `losses_nats` every step.
    """

    contender: str
    num_tokens: int
    seconds: float
    peak_bytes: int
    losses_nats: list[float]
    note: str = ""

    @property
    def tokens_per_second(self) -> float:
        """The figure that counts."""
        return self.num_tokens / self.seconds
