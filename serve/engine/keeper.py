"""Moves prefixes between cells and the prefix cache: saves what is left idle, brings it back.

Lives on the worker thread. Knows the model, the seats and the cache; chooses no rows.

An idle prefix in the cells makes every step of everyone slower, and the way back costs less than
a thousandth of reading it, so it leaves soon: `demote_seconds` after its sequence ended.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from serve.engine.errors import DecodeError
from serve.engine.request import Priority

if TYPE_CHECKING:
    from serve.engine.decoder import Decoder
    from serve.engine.prefix_cache import PrefixCache
    from serve.engine.slots import Held, Seating, Slot, SlotTable

logger = logging.getLogger(__name__)

KEYSTROKE_TOKENS = 4096  # about 30 ms to save; a fill-in-the-middle request waits for no more


class Keeper:
    """Keeps a copy of cells that go, when they are worth it."""

    def __init__(
        self, model: Decoder, slots: SlotTable, cache: PrefixCache, demote_seconds: float
    ) -> None:
        self.cache = cache
        self._model = model
        self._slots = slots
        self._demote_seconds = demote_seconds

    def seconds_to_next(self, now: float) -> float | None:
        """Return how long an idle worker may sleep; None for as long as nobody comes."""
        times = []
        slot = self._next_to_store()
        if slot is not None:
            times.append(slot.released_at + self._demote_seconds)
        settles_at = self.cache.next_settles_at()
        if settles_at is not None:
            times.append(settles_at)
        return max(min(times) - now, 0.0) if times else None

    def tidy(self, now: float) -> None:
        """Move one prefix that is due; called between steps, so one wait is one prefix long."""
        slot = self._next_to_store()
        if slot is not None and now >= slot.released_at + self._demote_seconds:
            self._demote(slot, now)
            return
        settled = self.cache.next_settled(now)
        if settled is not None:
            self.cache.write_out(settled)

    def audit(self) -> None:
        """Compare the books with the cells, while nothing runs; what disagrees is forgotten."""
        for slot in self._slots.slots:
            num_cells, num_held = self._model.end_position(slot.seq_id), len(slot.held_token_ids)
            if slot.sequence is None and num_cells != num_held:
                logger.warning(
                    "seat %d has %d cells for %d tokens; they are forgotten",
                    slot.seq_id,
                    num_cells,
                    num_held,
                )
                slot.held_token_ids = []
                self._model.trim(slot.seq_id, 0)
        wrong = self.cache.what_is_wrong()
        if wrong is not None:
            logger.warning("the prefix cache is emptied: %s", wrong)
            self.cache.purge()

    def _next_to_store(self) -> Slot | None:
        return self._slots.next_to_store() if self.cache.is_on else None

    def _demote(self, slot: Slot, now: float) -> None:
        """Move cells to the cache; what it does not take stays where it is.

        So do cells that can be cut now and could not be cut once they were restored.
        """
        loses_by_it = self._model.can_trim and not self._model.can_trim_restored
        if self.keep(slot.held(), now) and not loses_by_it:
            slot.held_token_ids = []
            self._model.trim(slot.seq_id, 0)
        else:
            slot.stays = True

    def evict_idle(self, now: float) -> bool:
        """Free the idle cells that were left first, with a copy kept; False without any."""
        held = self._slots.evict_idle()
        if held is None:
            return False
        self.keep(held, now)
        self._model.trim(held.seq_id, 0)
        return True

    def keep(self, held: Held, now: float) -> bool:
        """Copy cells into the cache, before they are cut; say whether it has them now."""
        cache = self.cache
        if cache.touch(held.token_ids, held.scope, now):
            return True
        if not cache.is_wanted(len(held.token_ids), self._model.state_bytes(held.seq_id)):
            return False
        try:
            state = self._model.save(held.seq_id)
        except (DecodeError, MemoryError) as error:
            logger.warning("a prefix is not kept: %s", error)
            return False
        cache.put(held.token_ids, held.scope, state, now)
        return True

    def keep_lost(self, seating: Seating, now: float) -> None:
        """Copy what a newcomer displaces, unless that would make a keystroke wait."""
        lost = seating.lost
        if lost is None:
            return
        is_keystroke = seating.sequence.priority is Priority.FIM
        if not is_keystroke or len(lost.token_ids) <= KEYSTROKE_TOKENS:
            self.keep(lost, now)

    def restore(self, seating: Seating, now: float) -> bool:
        """Fill an emptied seat from the cache; False when the prompt has to be read instead."""
        assert seating.stored is not None  # asked for a seating that restores
        state = self.cache.fetch(seating.stored, now)
        if state is None:
            return False
        while not self._model.restore(seating.seq_id, state):
            if not self.evict_idle(now):
                return False
        self._model.trim(seating.seq_id, seating.num_cached)
        return True

    def purge(self) -> None:
        """Forget what nobody uses, in the cells and outside."""
        while (held := self._slots.evict_idle()) is not None:
            self._model.trim(held.seq_id, 0)
        self.cache.purge()

    def close(self, now: float, *, cells_are_sound: bool = True) -> None:
        """Save what is idle when it can outlive the process."""
        if self.cache.disk is not None and cells_are_sound:
            while self.evict_idle(now):
                pass
        self.cache.close()
