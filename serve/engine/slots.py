"""Seats: which sequence ids are free or used, and which tokens each still holds.

Plain bookkeeping; moves no cells itself, but says in a `Seating` what has to be moved. Knows
neither priorities nor what stored prefixes are worth, and no llama_cpp. A seat is free or used,
never both; what it holds is seen only by sequences of the same cache scope.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from serve.engine.prefix import common_prefix_length

if TYPE_CHECKING:
    from serve.engine.prefix import Match
    from serve.engine.sequence import Sequence

MIN_GAIN_TOKENS = 16  # that a stored prefix must add to a resident one: the worth of moving bytes


@dataclass(slots=True)
class Slot:
    """One seat. `held_token_ids` have cells; while it is used, the sequence itself knows them.

    `floor` is the shortest length its cells can be cut to, when they came back from a store that
    leaves out what a sliding window has passed; 0 for most models.
    """

    seq_id: int
    sequence: Sequence | None = None
    held_token_ids: list[int] = field(default_factory=list)
    scope: str = ""
    floor: int = 0
    released: int = 0  # order of release, for least recently used
    released_at: float = 0.0
    stays: bool = False  # no store wants its cells

    def token_ids(self) -> list[int]:
        """Return the tokens that have cells now."""
        sequence = self.sequence  # read once: other threads ask, too
        if sequence is None:
            return self.held_token_ids
        return sequence.token_ids[: sequence.num_computed]

    @property
    def is_idle(self) -> bool:
        """Say whether nobody uses the cells it holds."""
        return self.sequence is None and bool(self.held_token_ids)

    def held(self) -> Held:
        """Describe its cells."""
        return Held(self.seq_id, self.token_ids(), self.scope)


@dataclass(frozen=True, slots=True)
class Held:
    """Cells that are about to go: whose, of which tokens, seen by which scope."""

    seq_id: int
    token_ids: list[int]
    scope: str


@dataclass(frozen=True, slots=True)
class Seating:
    """A sequence's place: cells of `seq_id` beyond `num_cached` go, after copying from a source.

    copy_from, stored None:  the seat's own first `num_cached` cells stay, the rest is cut
    copy_from id:            the seat is emptied and shares the first `num_cached` cells of `id`
    stored:                  the seat is emptied, the stored state restored and cut to `num_cached`
    `lost` are the seat's cells when most of them go.
    """

    sequence: Sequence
    seq_id: int
    num_cached: int
    copy_from: int | None = None
    stored: Match | None = None
    lost: Held | None = None


class SlotTable:
    """All seats. `can_trim` False is for memory that holds a whole sequence or nothing."""

    def __init__(
        self, n_slots: int, *, can_trim: bool = True, can_trim_restored: bool = True
    ) -> None:
        self.slots = [Slot(seq_id) for seq_id in range(n_slots)]
        self.can_trim = can_trim
        self._can_trim_restored = can_trim and can_trim_restored
        self._releases = itertools.count(1)

    @property
    def num_free(self) -> int:
        """Count the free seats."""
        return sum(slot.sequence is None for slot in self.slots)

    def num_ready(self, token_ids: list[int], scope: str) -> int:
        """Count the leading tokens that have cells; any thread, a step behind at most."""
        held = [slot.token_ids() for slot in self.slots if slot.scope == scope]
        return max((common_prefix_length(each, token_ids) for each in held), default=0)

    def seat(self, sequence: Sequence, stored: Match | None = None) -> Seating:
        """Give a sequence the free seat that saves most reading, and say what to move.

        `stored` is the best that lies outside the cells; it is taken when it saves more.
        """
        seating = self._choose(sequence, stored)
        slot = self.slots[seating.seq_id]
        assert slot.sequence is None  # invariant
        slot.floor = self._floor_after(seating, slot)
        slot.sequence, slot.held_token_ids = sequence, []
        slot.scope = sequence.request.cache_scope
        sequence.seq_id = seating.seq_id
        sequence.num_computed = seating.num_cached
        return seating

    def _choose(self, sequence: Sequence, stored: Match | None) -> Seating:
        free = [slot for slot in self.slots if slot.sequence is None]
        shared = {slot.seq_id: self._num_shared(slot, sequence) for slot in self.slots}
        home = max(free, key=lambda slot: (shared[slot.seq_id], -slot.released))
        best = max(shared, key=lambda seq_id: shared[seq_id])
        oldest = min(free, key=lambda slot: (bool(slot.held_token_ids), slot.released))
        if stored is not None and stored.num_tokens >= shared[best] + MIN_GAIN_TOKENS:
            lost = _lost(oldest, 0)
            return Seating(sequence, oldest.seq_id, stored.num_tokens, stored=stored, lost=lost)
        if self._may_take_over(home, shared[home.seq_id], shared[best]):
            return Seating(sequence, home.seq_id, shared[home.seq_id])
        if not self.can_trim or not shared[best]:
            return Seating(sequence, oldest.seq_id, 0, lost=_lost(oldest, 0))
        if oldest.seq_id == best:
            return Seating(sequence, best, shared[best], lost=_lost(oldest, shared[best]))
        lost = _lost(oldest, 0)
        return Seating(sequence, oldest.seq_id, shared[best], copy_from=best, lost=lost)

    def _may_take_over(self, home: Slot, num_shared: int, best: int) -> bool:
        """Sit in a seat when nothing is better elsewhere and most of what it holds is used."""
        return num_shared > 0 and num_shared == best and 2 * num_shared >= len(home.held_token_ids)

    def _num_shared(self, slot: Slot, sequence: Sequence) -> int:
        """Count the reusable cells; the last token is always read again, for its logits."""
        if slot.scope != sequence.request.cache_scope or sequence.reads_all:
            return 0
        held = slot.token_ids()
        count = min(common_prefix_length(held, sequence.token_ids), len(sequence.token_ids) - 1)
        if self.can_trim:
            return count if count >= slot.floor else 0
        return count if slot.sequence is None and count == len(held) else 0

    def _floor_after(self, seating: Seating, slot: Slot) -> int:
        if seating.stored is not None:
            return 0 if self._can_trim_restored else seating.num_cached
        if seating.copy_from is not None:
            return self.slots[seating.copy_from].floor
        return slot.floor if seating.num_cached else 0

    def release(self, sequence: Sequence, *, keep_cells: bool, now: float = 0.0) -> None:
        """Free a seat; its cells stay for the next prompt that begins the same way, or go."""
        slot = self.slots[sequence.seq_id]
        assert slot.sequence is sequence  # invariant
        slot.held_token_ids = sequence.token_ids[: sequence.num_computed] if keep_cells else []
        slot.sequence = None
        slot.released = next(self._releases)
        slot.released_at, slot.stays = now, False
        sequence.seq_id = -1
        if not keep_cells:
            sequence.num_computed = 0

    def evict_idle(self) -> Held | None:
        """Forget what the least recently used free seat holds; None when nothing is left."""
        idle = [slot for slot in self.slots if slot.is_idle]
        if not idle:
            return None
        slot = min(idle, key=lambda slot: slot.released)
        held = slot.held()
        slot.held_token_ids = []
        return held

    def next_to_store(self) -> Slot | None:
        """Return the free seat that was left first, of those whose cells may go to a store."""
        idle = [slot for slot in self.slots if slot.is_idle and not slot.stays]
        return min(idle, key=lambda slot: slot.released, default=None)


def _lost(slot: Slot, num_kept: int) -> Held | None:
    return slot.held() if len(slot.held_token_ids) > 2 * num_kept else None
