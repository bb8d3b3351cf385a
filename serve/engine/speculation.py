"""How much of which draft is worth computing in the next decode call.

A draft of k tokens makes the call longer, t(n + k) instead of t(n), and yields more than one
token as long as guesses come true. What counts is the tokens of all streams per second; a draft
that does not raise them by more than what estimates are wrong by is left out.

Bounds that keep others from paying for it: while an editor waits for its completion only that
completion is drafted; beside streams that cannot use drafts a call takes at most `PATIENCE` times
as long as without; no call is longer than the step that prefill chunks are sized by, or `SLOWEST`
times a plain one where that is more, so that a newcomer waits about as long as behind those.
Knows no llama_cpp and no text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from serve.engine.batch import MAX_DRAFT_ROWS, Span
from serve.engine.chunking import ROW_GROUP, SHARED_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from serve.engine.decode_times import DecodeTimes
    from serve.engine.drafts import Drafter
    from serve.engine.sequence import Sequence

MARGIN = 1.05  # the gain below which it is not worth the risk
PATIENCE = 2.0
SLOWEST = 4.0  # times a plain call, for models whose rows take long anyway


@dataclass(frozen=True, slots=True)
class _Candidate:
    span: Span
    expected: list[float]  # tokens of the step by length of the draft
    tokens: tuple[int, ...]


class Speculation:
    """Adds drafts to the decode rows of a step; the worker thread is its only caller."""

    def __init__(self, times: DecodeTimes, max_rows: int) -> None:
        self.times = times
        self._max_rows = max_rows

    def extend(
        self,
        spans: Many[Span],
        drafter_of: Callable[[Sequence], Drafter | None],
        *,
        others_wait: bool,
    ) -> tuple[Span, ...]:
        """Return the spans, some with a draft. `others_wait` says that prompts are being read."""
        num_rows = sum(span.num_rows for span in spans)
        room = min(MAX_DRAFT_ROWS, self._max_rows - num_rows)
        is_urgent = any(span.sequence.is_urgent for span in spans)
        candidates = []
        for span in spans:
            if not is_urgent or span.sequence.is_urgent:
                candidate = _candidate(span, drafter_of(span.sequence), room)
                if candidate is not None:
                    candidates.append(candidate)
        if not candidates:
            return tuple(spans)
        others_wait = others_wait or len(candidates) < len(spans)
        drafted = self._choose(candidates, num_rows, len(spans), others_wait=others_wait)
        return tuple(drafted.get(span.sequence, span) for span in spans)

    def _choose(
        self, candidates: list[_Candidate], num_rows: int, num_streams: int, *, others_wait: bool
    ) -> dict[Sequence, Span]:
        """Lengthen one draft after the other, each given those before it."""
        limit = self._longest_call(num_rows, others_wait=others_wait)
        room = min(MAX_DRAFT_ROWS, self._max_rows - num_rows)
        tokens, drafted = float(num_streams), {}
        for candidate in candidates:
            length = self._best_length(candidate, num_rows, tokens, room, limit)
            if length:
                span = candidate.span
                drafted[span.sequence] = replace(span, draft=candidate.tokens[:length])
                num_rows, room = num_rows + length, room - length
                tokens += candidate.expected[length] - 1
        return drafted

    def _longest_call(self, num_rows: int, *, others_wait: bool) -> float:
        plain = self.times.estimate(num_rows)
        limit = max(SHARED_SECONDS, SLOWEST * plain) if self.times.is_measured else float("inf")
        return min(limit, PATIENCE * plain) if others_wait else limit

    def _best_length(
        self, candidate: _Candidate, num_rows: int, tokens: float, room: int, limit: float
    ) -> int:
        estimate = self.times.estimate
        best, best_rate = 0, MARGIN * tokens / estimate(num_rows)
        most = min(len(candidate.tokens), room)
        first = ROW_GROUP - num_rows % ROW_GROUP  # fills the group that is begun
        for length in (*range(first, most, ROW_GROUP), most):
            seconds = estimate(num_rows + length)
            rate = (tokens + candidate.expected[length] - 1) / seconds
            if seconds <= limit and rate > best_rate:
                best, best_rate = length, rate
        return best


def _candidate(span: Span, drafter: Drafter | None, room: int) -> _Candidate | None:
    """Ask for a draft that cannot run past a limit: one token more than it is sampled."""
    if drafter is None or not span.wants_logits:
        return None
    tokens = drafter.propose(min(room, span.sequence.num_tokens_left - 1))
    if not tokens:
        return None
    expected = drafter.acceptance.expected_tokens(drafter.agreement, len(tokens))
    return _Candidate(span, expected, tokens)
