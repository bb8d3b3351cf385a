"""Who is seated and whose rows are computed next. Pure Python: never calls llama.

Classes: FIM before INTERACTIVE before BACKGROUND. Within one, who has little left to read comes
before who has much, else a question would wait for the whole of an agent's history; of those with
about as much, who came first. Two things move a sequence out of this order:

aging     A sequence that was given no rows for `aging_seconds` counts as one class higher, for
          twice that as two. So an INTERACTIVE prefill gets a chunk within `aging_seconds` and a
          BACKGROUND one within `2 * aging_seconds`, plus one step for every sequence that waits
          as long; a chunk that runs by its age is short and is not aborted.
urgency   While a FIM sequence decodes its first tokens, lower prefills wait (until they age):
          the editor shows the completion when it is whole.

Who begins as a running one does that is still being read, and does not go before it, waits for
what they share: `n` copies of a prompt are read once.

All rows of a step are computed with the same adapters; `turns` says with which.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serve.engine.batch import MAX_SCORED_ROWS, Span
from serve.engine.prefix import Tier
from serve.engine.request import FinishReason, Priority
from serve.engine.sequence import Sequence, Status
from serve.engine.turns import Turns

if TYPE_CHECKING:
    from serve.engine.chunking import RowCosts
    from serve.engine.prefix import Match
    from serve.engine.prefix_cache import PrefixCache
    from serve.engine.slots import Held, Seating, SlotTable


WAITED_FOR_TOKENS = 8  # fewer are read sooner than someone else's chunk ends
SHORT_TOKENS = 64  # fewer to read are all alike; beyond, twice as many come after
MAX_FORCED_ROWS = 32  # in one step: more would hold the other streams up


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_rows` of one batch; `n_cells` for all; `num_general` seats for classes below FIM.

    `headroom_tokens` is the growth that admission expects of every sequence. With too little, one
    that was sent back for want of cells comes in again at once, reads, and is sent back again.
    """

    max_rows: int
    n_cells: int
    num_general: int
    aging_seconds: float
    headroom_tokens: int = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: who sits down where, decode rows, then prompt rows of one class.

    `prefill_class` is the effective class of the chunk: a newcomer below it may abort it.
    """

    seatings: tuple[Seating, ...]
    decode: tuple[Span, ...]
    prefill: tuple[Span, ...]
    prefill_class: int


class Scheduler:
    """Owns the queue and the running sequences; the worker thread is its only caller."""

    def __init__(
        self, slots: SlotTable, costs: RowCosts, limits: Limits, cache: PrefixCache | None = None
    ) -> None:
        self.slots = slots
        self.cache = cache
        self.costs = costs
        self.limits = limits
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self._turns = Turns()

    @property
    def has_work(self) -> bool:
        """Say whether anyone waits or runs."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence."""
        self.waiting.append(sequence)

    def plan(self, now: float) -> Plan:
        """Seat who can be seated and choose the rows of the next step."""
        seatings = self._admit(now)
        turn = self._turns.choose(self.running, lambda s: self._turn_class(s, now), now)
        running = [s for s in self.running if s.request.adapters == turn]
        decoding = [s for s in running if s.status is Status.DECODE]
        decode = _one_each_and_forced(decoding, self.limits.max_rows)
        prefill_class, prefill = self._choose_prefill(running, decoding, now)
        return Plan(seatings, decode, prefill, prefill_class)

    def _admit(self, now: float) -> tuple[Seating, ...]:
        """Seat in order of rank. A seating that restores is the last: it may cost idle cells."""
        seatings: list[Seating] = []
        for sequence in sorted(self.waiting, key=lambda s: self._rank(s, now)):
            if not self.slots.num_free or not self._cells_suffice(sequence):
                break
            if sequence.priority is not Priority.FIM and self._general_seats_taken():
                continue
            if self._is_read_by_another(sequence):
                continue
            seatings.append(self._seat(sequence, now))
            if seatings[-1].stored is not None:
                break
        return tuple(seatings)

    def _is_read_by_another(self, sequence: Sequence) -> bool:
        """Say whether one that goes first is reading the same beginning, which can be shared then.

        The class counts as it was submitted: with age, one that waits would overtake its leader.
        Who reads all of its prompt shares nothing, and who is scored leaves nothing.
        """
        if sequence.reads_all or not self.slots.can_trim:
            return False
        return any(
            each.status is Status.PREFILL
            and not each.is_scored
            and (each.priority, each.number) < (sequence.priority, sequence.number)
            and each.request.cache_scope == sequence.request.cache_scope
            and sequence.num_shared_with(each) >= each.num_computed + WAITED_FOR_TOKENS
            for each in self.running
        )

    def _seat(self, sequence: Sequence, now: float) -> Seating:
        self.waiting.remove(sequence)
        seating = self.slots.seat(sequence, self._match(sequence))
        sequence.status = Status.PREFILL
        if sequence.seated_at is None:
            sequence.seated_at = now
            sequence.num_cached_tokens = seating.num_cached
            if seating.stored is not None:
                sequence.cached_tier = seating.stored.tier
        self.running.append(sequence)
        return seating

    def _match(self, sequence: Sequence) -> Match | None:
        """Find its beginning outside the cells; the running ones leave room for so many."""
        if self.cache is None or sequence.reads_all:
            return None
        room = self.limits.n_cells - sum(s.num_computed for s in self.running)
        return self.cache.match(sequence.token_ids, sequence.request.cache_scope, room)

    def _rank(self, sequence: Sequence, now: float) -> tuple[int, int, int]:
        """Order by class, then by what is left to read, roughly, then by arrival.

        Who has aged counts as short, or a flood of short ones would hold a long one up for good.
        """
        has_aged = now - sequence.served_at >= self.limits.aging_seconds
        length = 0 if has_aged else (sequence.num_to_read // SHORT_TOKENS).bit_length()
        return self._effective_class(sequence, now), length, sequence.number

    def _effective_class(self, sequence: Sequence, now: float) -> int:
        promoted = int((now - sequence.served_at) / self.limits.aging_seconds)
        return max(int(sequence.priority) - promoted, 0)

    def _turn_class(self, sequence: Sequence, now: float) -> int:
        """Return its class among the mixes of adapters: a long answer is no keystroke any more."""
        is_long = sequence.priority is Priority.FIM and not sequence.is_urgent
        return int(Priority.INTERACTIVE) if is_long else self._effective_class(sequence, now)

    def _general_seats_taken(self) -> bool:
        general = sum(s.priority is not Priority.FIM for s in self.running)
        return general >= self.limits.num_general

    def _cells_suffice(self, sequence: Sequence) -> bool:
        """Admit only what fits beside the running ones; idle cells can always be evicted."""
        headroom = self.limits.headroom_tokens
        wanted = sum(s.cells_wanted(headroom) for s in (*self.running, sequence))
        return wanted <= self.limits.n_cells or not self.running

    def _choose_prefill(
        self, running: list[Sequence], decoding: list[Sequence], now: float
    ) -> tuple[int, tuple[Span, ...]]:
        reading = [s for s in running if s.status is Status.PREFILL]
        if not reading:
            return 0, ()
        ranked = sorted((self._rank(s, now), s) for s in reading)
        top = ranked[0][0][0]
        if top > Priority.FIM and any(s.is_urgent for s in decoding):
            return top, ()
        chosen = [s for rank, s in ranked if rank[0] == top]
        by_age = any(top < s.priority for s in chosen)
        # A keystroke aborts a background chunk, which is lost then: short ones get done in between.
        is_short = bool(decoding) or by_age or top >= Priority.BACKGROUND or len(chosen) > 1
        rows = self.costs.chunk_rows(
            others_wait=is_short or len(running) < len(self.running), limit=self.limits.max_rows
        )
        return top, _fill(chosen, rows)

    def mark_computed(self, span: Span, now: float) -> None:
        """Record that the cells of a span exist."""
        span.sequence.num_computed = span.stop
        span.sequence.served_at = now

    def mark_accepted(self, span: Span, num_true: int) -> None:
        """Record that of a span's draft the first tokens were said, so that their cells stay."""
        sequence = span.sequence
        sequence.num_computed += num_true
        sequence.num_draft_tokens += len(span.draft)
        sequence.num_accepted_tokens += num_true

    def mark_cut(self, sequence: Sequence, num_computed: int) -> None:
        """Record that cells were lost; who has more than one token to read reads it in chunks."""
        sequence.num_computed = num_computed
        if sequence.num_to_read > 1:
            sequence.status = Status.PREFILL

    def finish(
        self, sequence: Sequence, reason: FinishReason, now: float, *, keep_cells: bool = True
    ) -> None:
        """End a sequence wherever it stands and free its seat."""
        if sequence.is_seated:
            self.running.remove(sequence)
            self.slots.release(sequence, keep_cells=keep_cells, now=now)
        else:
            self.waiting.remove(sequence)
        sequence.finish(reason, now)

    def mark_unread(self, sequence: Sequence) -> None:
        """Record that the cells it was promised could not be had: all of it is read."""
        sequence.num_computed = 0
        self.slots.slots[sequence.seq_id].floor = 0
        if not sequence.num_output_tokens:
            sequence.num_cached_tokens = 0
            sequence.cached_tier = Tier.RESIDENT

    def make_room(self) -> Held | None:
        """Give up cells of the least worth; return which, or None when one sequence has all.

        Idle prefixes go first. Then the newest sequence of the lowest class goes back to the
        queue, to be read again; the oldest of the highest always gets to its end.
        """
        evicted = self.slots.evict_idle()
        if evicted is not None:
            return evicted
        if len(self.running) < 2:
            return None
        victim = max(self.running, key=lambda s: (s.priority, s.number))
        return self._requeue(victim)

    def _requeue(self, victim: Sequence) -> Held:
        held = self.slots.slots[victim.seq_id].held()
        self.running.remove(victim)
        self.slots.release(victim, keep_cells=False)
        victim.status = Status.QUEUED
        self.num_preemptions += 1
        self.waiting.append(victim)
        return held


def _one_each_and_forced(decoding: list[Sequence], max_rows: int) -> tuple[Span, ...]:
    """Give each its next row and, as far as there is room, those that a constraint forced."""
    room = min(max_rows - len(decoding), MAX_FORCED_ROWS)
    spans = []
    for sequence in decoding:
        more = min(sequence.num_to_read - 1, room)
        room -= more
        spans.append(Span(sequence, sequence.num_computed, sequence.num_computed + 1 + more))
    return tuple(spans)


def _fill(ranked: list[Sequence], rows: int) -> tuple[Span, ...]:
    """Share `rows` out in order, until they are used up; those that score are fewer."""
    spans = []
    scored_rows = MAX_SCORED_ROWS
    for sequence in ranked:
        count = min(rows, sequence.num_to_read)
        if sequence.is_scoring:
            count = min(count, scored_rows)
            scored_rows -= count
        if count:
            spans.append(Span(sequence, sequence.num_computed, sequence.num_computed + count))
        rows -= count
    return tuple(spans)
