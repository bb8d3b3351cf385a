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

MAX_DRAFT_ROWS = 31  # of one batch: with the row before them eight groups of four
MAX_SCORED_ROWS = MAX_DRAFT_ROWS + 1  # of one batch: as many outputs, so no memory of their own


class Outcome(enum.Enum):
    """How a decode call ended. NO_CELLS changed nothing; ABORTED lost the batch's rows."""

    DONE = 0
    NO_CELLS = 1
    ABORTED = 2


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start..stop` of a sequence, to be read in one batch, and a guess at what follows.

    token_ids  [ 0 ............ start ........ stop ............ len )
                 cells exist    | read now     | not yet         |
    Logits are wanted exactly when the span reaches the end: stop == len. Then `draft` may go on:

    rows       [ start ... stop-1 | draft[0] ... draft[-1] )
                            logits  logits       logits
    Each row with logits chooses the token after it. As long as that is the next one of the draft,
    the row behind was read rightly; what lies beyond the first difference is cut again.
    Where logprobs of the prompt are wanted, each row before another token of it has logits, too.
    """

    sequence: Sequence
    start: int
    stop: int
    draft: tuple[int, ...] = ()

    @property
    def wants_logits(self) -> bool:
        """Say whether the next token can be chosen after this span."""
        return self.stop == len(self.sequence.token_ids)

    @property
    def num_rows(self) -> int:
        """Count its rows in a batch."""
        return self.stop - self.start + len(self.draft)

    @property
    def scored(self) -> range:
        """Return the positions whose rows give the logprob of the prompt's next token."""
        sequence = self.sequence
        if not sequence.is_scoring:
            return range(0)
        last = min(self.stop, sequence.num_prompt_tokens - 1)
        return range(max(self.start, sequence.num_scored - 1), last)

    @property
    def is_current(self) -> bool:
        """Say whether the plan still holds: nobody cut or unseated the sequence since."""
        sequence = self.sequence
        return sequence.is_seated and sequence.num_computed == self.start


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of equal length, one entry a row, all computed with the same `adapters`.

    `outputs` maps a span that wants logits to the first row that has them; a draft's follow.
    `scored` maps a row to the sequence and the position of the prompt's token that follows it.
    """

    token_ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    seq_ids: list[int] = field(default_factory=list)
    wants_logits: list[int] = field(default_factory=list)
    outputs: list[tuple[int, Span]] = field(default_factory=list)
    scored: list[tuple[int, Sequence, int]] = field(default_factory=list)
    adapters: AdapterMix = ()

    def __len__(self) -> int:
        return len(self.token_ids)


def build_batch(spans: Many[Span]) -> Batch:
    """Lay spans out one after the other; the last row of a span, and its draft, want logits."""
    batch = Batch(adapters=spans[0].sequence.request.adapters)
    for span in spans:
        assert span.sequence.request.adapters == batch.adapters  # invariant: see `turns`
        sequence, count = span.sequence, span.num_rows
        num_outputs = 1 + len(span.draft) if span.wants_logits else 0
        assert span.wants_logits or not span.draft  # invariant
        batch.token_ids.extend(sequence.token_ids[span.start : span.stop])
        batch.token_ids.extend(span.draft)
        batch.positions.extend(range(span.start, span.start + count))
        batch.seq_ids.extend([sequence.seq_id] * count)
        batch.wants_logits.extend([0] * (count - num_outputs) + [1] * num_outputs)
        first_row = len(batch) - count
        for position in span.scored:
            row = first_row + position - span.start
            batch.wants_logits[row] = 1
            batch.scored.append((row, sequence, position + 1))
        if num_outputs:
            batch.outputs.append((len(batch) - num_outputs, span))
    return batch
