"""The rows of one decode call, and the way back from a row to its sequence.

Pure Python; knows neither who chose the rows nor how they are computed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from serve.engine.request import AdapterMix
    from serve.engine.sequence import Sequence


class Outcome(enum.Enum):
    """How a decode call ended. NO_CELLS changed nothing; ABORTED lost the batch's rows."""

    DONE = 0
    NO_CELLS = 1
    ABORTED = 2


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start..stop` of a sequence, to be read in one batch.

    token_ids  [ 0 ............ start ........ stop ............ len )
                 cells exist    | read now     | not yet         |
    Logits are wanted exactly when the span reaches the end: stop == len.
    """

    sequence: Sequence
    start: int
    stop: int

    @property
    def wants_logits(self) -> bool:
        """Say whether the next token can be chosen after this span."""
        return self.stop == len(self.sequence.token_ids)

    @property
    def is_current(self) -> bool:
        """Say whether the plan still holds: nobody cut or unseated the sequence since."""
        sequence = self.sequence
        return sequence.is_seated and sequence.num_computed == self.start


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of equal length, one entry a row; `outputs` maps a row with logits to its span.

    All rows are computed with the same `adapters`.
    """

    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    seq_ids: list[int] = field(default_factory=list)
    wants_logits: list[int] = field(default_factory=list)
    outputs: list[tuple[int, Span]] = field(default_factory=list)
    adapters: AdapterMix = ()

    def __len__(self) -> int:
        return len(self.token_ids)


def build_batch(spans: Many[Span]) -> Batch:
    """Lay spans out one after the other; the last row of a span may want logits."""
    batch = Batch(adapters=spans[0].sequence.request.adapters)
    for span in spans:
        assert span.sequence.request.adapters == batch.adapters  # invariant: see `turns`
        count = span.stop - span.start
        batch.token_ids.extend(span.sequence.token_ids[span.start : span.stop])
        batch.positions.extend(range(span.start, span.stop))
        batch.seq_ids.extend([span.sequence.seq_id] * count)
        batch.wants_logits.extend([0] * (count - 1) + [int(span.wants_logits)])
        if span.wants_logits:
            batch.outputs.append((len(batch) - 1, span))
    return batch
