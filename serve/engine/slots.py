"""Seats: which sequence ids are free or used, and which tokens each still holds.

Plain bookkeeping; moves no cells itself, but says in a `Seating` what has to be moved. Knows
neither priorities nor llama_cpp. A seat is free or used, never both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Many

    from serve.engine.sequence import Sequence


@dataclass(slots=True)
class Slot:
    """One seat. `held_token_ids` have cells; while it is used, the sequence itself knows them."""

    seq_id: int
    sequence: Sequence | None = None
    held_token_ids: list[int] = field(default_factory=list)
    released: int = 0  # order of release, for least recently used

    def token_ids(self) -> list[int]:
        """Return the tokens that have cells now."""
        if self.sequence is None:
            return self.held_token_ids
        return self.sequence.token_ids[: self.sequence.num_computed]


@dataclass(frozen=True, slots=True)
class Seating:
    """A sequence's place: cells of `seq_id` beyond `num_cached` go, after copying from a source.

    copy_from None:  the seat's own first `num_cached` cells stay, the rest is cut
    copy_from id:    the seat is emptied and shares the first `num_cached` cells of `id`
    """

    sequence: Sequence
    seq_id: int
    num_cached: int
    copy_from: int | None = None


class SlotTable:
    """All seats. `can_trim` False is for memory that holds a whole sequence or nothing."""

    def __init__(self, n_slots: int, *, can_trim: bool = True) -> None:
        self.slots = [Slot(seq_id) for seq_id in range(n_slots)]
        self._can_trim = can_trim
        self._releases = itertools.count(1)

    @property
    def num_free(self) -> int:
        """Count the free seats."""
        return sum(slot.sequence is None for slot in self.slots)

    def seat(self, sequence: Sequence) -> Seating:
        """Give a sequence the free seat that saves most reading, and say what to move."""
        seating = self._choose(sequence)
        slot = self.slots[seating.seq_id]
        assert slot.sequence is None  # invariant
        slot.sequence, slot.held_token_ids = sequence, []
        sequence.seq_id = seating.seq_id
        sequence.num_computed = seating.num_cached
        return seating

    def _choose(self, sequence: Sequence) -> Seating:
        free = [slot for slot in self.slots if slot.sequence is None]
        shared = {slot.seq_id: self._num_shared(slot, sequence) for slot in self.slots}
        home = max(free, key=lambda slot: (shared[slot.seq_id], -slot.released))
        best = max(shared, key=lambda seq_id: shared[seq_id])
        if self._may_take_over(home, shared[home.seq_id], shared[best]):
            return Seating(sequence, home.seq_id, shared[home.seq_id])
        oldest = min(free, key=lambda slot: (bool(slot.held_token_ids), slot.released))
        if not self._can_trim or not shared[best]:
            return Seating(sequence, oldest.seq_id, 0)
        if oldest.seq_id == best:
            return Seating(sequence, best, shared[best])
        return Seating(sequence, oldest.seq_id, shared[best], copy_from=best)

    def _may_take_over(self, home: Slot, num_shared: int, best: int) -> bool:
        """Sit in a seat when nothing is better elsewhere and most of what it holds is used."""
        return num_shared > 0 and num_shared == best and 2 * num_shared >= len(home.held_token_ids)

    def _num_shared(self, slot: Slot, sequence: Sequence) -> int:
        """Count the reusable cells; the last token is always read again, for its logits."""
        held = slot.token_ids()
        count = min(common_prefix_length(held, sequence.token_ids), len(sequence.token_ids) - 1)
        if self._can_trim:
            return count
        return count if slot.sequence is None and count == len(held) else 0

    def release(self, sequence: Sequence, *, keep_cells: bool) -> None:
        """Free a seat; its cells stay for the next prompt that begins the same way, or go."""
        slot = self.slots[sequence.seq_id]
        assert slot.sequence is sequence  # invariant
        slot.held_token_ids = sequence.token_ids[: sequence.num_computed] if keep_cells else []
        slot.sequence = None
        slot.released = next(self._releases)
        sequence.seq_id = -1
        if not keep_cells:
            sequence.num_computed = 0

    def evict_idle(self) -> int | None:
        """Forget what the least recently used free seat holds; None when nothing is left."""
        idle = [slot for slot in self.slots if slot.sequence is None and slot.held_token_ids]
        if not idle:
            return None
        slot = min(idle, key=lambda slot: slot.released)
        slot.held_token_ids = []
        return slot.seq_id


def common_prefix_length(left: Many[int], right: Many[int]) -> int:
    """Count equal leading tokens, by halving: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low
