"""Whose turn it is when sequences want different adapters: one mix is set on the context at a time.

Pure Python; knows neither seats nor rows. A switch costs some milliseconds, so a mix keeps its
turn for several steps; the turns of all that want one fit a wait that a reader hardly notices.

    turn ends   when its time is up, its rows are, or a sequence of a better class waits elsewhere
    next        the best class first, then who had a turn longest ago
    by age      a class may be better only because its sequence waited: such a turn is held to its
                end, so that a flood of a better class leaves the others more than a step each
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.engine.chunking import SHARED_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from serve.engine.request import AdapterMix
    from serve.engine.sequence import Sequence

MIN_TURN_SECONDS = 0.05  # under this a switch would cost more than a tenth of the turn


@dataclass(slots=True)
class _Claim:
    """What the sequences of one mix want: their best class, by age or by right, and since when."""

    effective_class: int
    own_class: int
    since: float


class Turns:
    """Chooses the mix of each step; the scheduler is its only caller."""

    def __init__(self) -> None:
        self._current: AdapterMix = ()
        self._began = 0.0
        self._is_by_age = False
        self._ended: dict[AdapterMix, float] = {}  # of mixes that wait: when they last had a turn

    def choose(
        self, sequences: Many[Sequence], class_of: Callable[[Sequence], int], now: float
    ) -> AdapterMix:
        """Return the mix whose sequences may have rows in this step."""
        mixes = {sequence.request.adapters for sequence in sequences}
        if len(mixes) <= 1:
            self._current = next(iter(mixes), self._current)
            self._began, self._is_by_age = now, False
            self._ended.clear()
            return self._current
        claims = _claims(sequences, class_of)
        if not self._keeps_turn(claims, now):
            self._begin(claims, now)
        return self._current

    def _begin(self, claims: dict[AdapterMix, _Claim], now: float) -> None:
        self._ended = {mix: end for mix, end in self._ended.items() if mix in claims}
        self._ended[self._current] = now
        chosen = min(claims, key=lambda mix: self._order(mix, claims[mix]))
        self._current, self._began = chosen, now
        self._is_by_age = claims[chosen].effective_class < claims[chosen].own_class

    def _keeps_turn(self, claims: dict[AdapterMix, _Claim], now: float) -> bool:
        own = claims.get(self._current)
        if own is None:
            return False
        turn = max(SHARED_SECONDS / (len(claims) - 1), MIN_TURN_SECONDS)
        if now - self._began >= turn:
            return False
        best = min(claim.effective_class for claim in claims.values())
        return self._is_by_age or own.effective_class <= best

    def _order(self, mix: AdapterMix, claim: _Claim) -> tuple[int, float]:
        return claim.effective_class, self._ended.get(mix, claim.since)


def _claims(
    sequences: Many[Sequence], class_of: Callable[[Sequence], int]
) -> dict[AdapterMix, _Claim]:
    claims: dict[AdapterMix, _Claim] = {}
    for sequence in sequences:
        effective, own = class_of(sequence), int(sequence.priority)
        known = claims.setdefault(
            sequence.request.adapters, _Claim(effective, own, sequence.queued_at)
        )
        known.effective_class = min(known.effective_class, effective)
        known.own_class = min(known.own_class, own)
        known.since = min(known.since, sequence.queued_at)
    return claims
