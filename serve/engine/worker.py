"""The one thread that touches the llama context: plan, compute, hand on, step by step.

Knows no HTTP and no event loop; who goes first is the scheduler's affair, who reads the desk's.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from serve.engine.batch import Outcome, build_batch
from serve.engine.desk import Desk
from serve.engine.errors import DecodeError
from serve.engine.mailbox import Mailbox
from serve.engine.request import FinishReason
from serve.engine.sequence import Status
from serve.engine.stats import Counters

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from serve.engine.batch import Batch, Span
    from serve.engine.crowding import Crowding
    from serve.engine.decoder import Decoder
    from serve.engine.keeper import Keeper
    from serve.engine.lane import Lane
    from serve.engine.scheduler import Plan, Scheduler
    from serve.engine.sequence import Sequence
    from serve.engine.slots import Seating
    from serve.engine.speculation import Speculation

logger = logging.getLogger(__name__)


class Worker:
    """Runs steps while there is work. `start` it once, `close` it once, from any other thread."""

    def __init__(
        self,
        model: Decoder,
        scheduler: Scheduler,
        keeper: Keeper,
        *,
        speculation: Speculation,
        crowding: Crowding,
        clock: Callable[[], float],
    ) -> None:
        self.counters = Counters()
        self.mailbox = Mailbox()
        self.scheduler = scheduler
        self.failure: str | None = None
        self._model = model
        self._keeper = keeper
        self._speculation = speculation
        self._crowding = crowding
        self._clock = clock
        self._desk = Desk(model, scheduler, self.counters, clock)
        self._closing = False
        self._is_purge_wanted = False  # set by any thread, acted on by the worker
        self._chunk_class: int | None = None  # of the prefill chunk that runs now
        self._chunk: frozenset[Sequence] = frozenset()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, on_finished: Callable[[], None]) -> None:
        """Begin; `on_finished` is called on the worker's thread at each request's end."""
        self._desk.on_finished = on_finished
        self._thread.start()

    def submit(self, lane: Lane) -> None:
        """Take a lane; a running chunk of a lower class makes way. Raises: EngineClosedError.

        Without a free seat the newcomer could not use the time, so the chunk goes on.
        """
        self.mailbox.put(lane)
        chunk_class = self._chunk_class
        goes_first = chunk_class is not None and lane.sequence.priority < chunk_class
        if goes_first and self.scheduler.slots.num_free:
            self._model.abort.raise_()

    def wake(self) -> None:
        """Look for cancelled sequences now; a chunk that nobody wants any more is stopped."""
        self.mailbox.wake()
        chunk = self._chunk
        if chunk and all(sequence.is_cancelled for sequence in chunk):
            self._model.abort.raise_()

    def purge(self) -> None:
        """Forget every idle prefix, at the next step; any thread."""
        self._is_purge_wanted = True
        self.mailbox.wake()

    def close(self) -> None:
        """Stop the running decode, fail what is left, join."""
        self._closing = True
        self._model.abort.raise_()
        self.mailbox.close("the engine is closed")
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        reason = "the engine was closed"
        try:
            while not self._closing:
                self.step(wait=not self.scheduler.has_work)
        except Exception as error:
            logger.exception("the engine stops")
            reason = f"the engine failed: {error!r}"
            self.failure = reason
        self.mailbox.close(reason)
        self._desk.fail_all(self.mailbox.take(wait=False), reason)
        self._keeper.close(self._clock(), cells_are_sound=self.failure is None)

    def step(self, *, wait: bool = False) -> None:
        """Take lanes, plan, decode, sample, emit."""
        sleep = self._keeper.seconds_to_next(self._clock()) if wait else None
        for lane in self.mailbox.take(wait=wait, timeout_seconds=sleep):
            self._desk.enter(lane)
        began, decoding = self._clock(), self.counters.decode_seconds
        self._desk.drop_cancelled()
        self._purge_if_wanted()
        plan = self.scheduler.plan(self._clock())
        for seating in plan.seatings:
            self._seat(seating)
            self._desk.report(seating.sequence)
        self._compute(self._with_drafts(plan))
        self._desk.flush()
        self._compute_chunk(plan)
        self._desk.flush()
        self._keeper.tidy(self._clock())
        if not self.scheduler.has_work:
            self._keeper.audit()
        inside = self.counters.decode_seconds - decoding
        self.counters.count_step(inside, self._clock() - began - inside)

    def _purge_if_wanted(self) -> None:
        if self._is_purge_wanted:
            self._is_purge_wanted = False
            self._keeper.purge()

    def _seat(self, seating: Seating) -> None:
        """Move cells as the seating says, after a copy of what goes was kept."""
        now = self._clock()
        try:
            self._keeper.keep_lost(seating, now)
            if seating.copy_from is None and seating.stored is None:
                self._model.trim(seating.seq_id, seating.num_cached)
                return
            self._model.trim(seating.seq_id, 0)
            if seating.copy_from is not None:
                self._model.copy(seating.copy_from, seating.seq_id, seating.num_cached)
            elif not self._keeper.restore(seating, now):
                self.scheduler.mark_unread(seating.sequence)
        except DecodeError as error:
            self._desk.fail(seating.sequence, str(error))

    def _with_drafts(self, plan: Plan) -> Many[Span]:
        return self._speculation.extend(
            plan.decode,
            lambda sequence: self._desk.lanes[sequence].drafter,
            others_wait=bool(plan.prefill),
        )

    def _compute_chunk(self, plan: Plan) -> None:
        """Run the prompt rows, open to be aborted by a newcomer of a higher class.

        The class is set before the mailbox is looked at, and a newcomer is put before it looks at
        the class: one of the two always sees the other.
        """
        self._chunk = frozenset(span.sequence for span in plan.prefill)
        self._chunk_class = plan.prefill_class
        try:
            self._compute(plan.prefill, yields_to=plan.prefill_class)
        finally:
            self._chunk_class, self._chunk = None, frozenset()

    def _compute(self, spans: Many[Span], yields_to: int | None = None) -> None:
        spans = [span for span in spans if span.is_current]
        self._model.abort.lower()
        if not spans or self._closing:
            return
        if yields_to is not None and self.mailbox.has_before(yields_to):
            return
        batch = build_batch(spans)
        began = self._clock()
        self._crowding.begin()
        try:
            outcome = self._model.decode(batch)
        except DecodeError as error:
            self._fail_spans(spans, str(error))
            return
        seconds = self._clock() - began
        self.counters.decode_seconds += seconds
        if outcome is Outcome.DONE:
            self._note_cost(batch, seconds, is_prefill=yields_to is not None)
            self._take_results(batch, spans)
        elif outcome is Outcome.ABORTED:
            self._recover(spans)
        elif any(span.draft for span in spans):
            self._compute([replace(span, draft=()) for span in spans], yields_to)
        else:
            self._make_room(spans)

    def _note_cost(self, batch: Batch, seconds: float, *, is_prefill: bool) -> None:
        num_rows, costs = len(batch), self.scheduler.costs
        self.counters.count_batch(num_rows, is_prefill=is_prefill)
        self._crowding.end(num_rows, is_prefill=is_prefill)
        if batch.scored:
            return  # rows with logits cost more, and are no measure of the others
        if is_prefill:
            costs.observe_prefill(num_rows, seconds)
        else:
            costs.observe_decode(seconds)
            self._speculation.times.observe(num_rows, seconds)

    def _take_results(self, batch: Batch, spans: Many[Span]) -> None:
        now = self._clock()
        for span in spans:
            self.scheduler.mark_computed(span, now)
            self._desk.report(span.sequence)
        for row, sequence, position in batch.scored:
            self._desk.lanes[sequence].score(position, self._model.logits(row))
        for row, span in batch.outputs:
            sequence = span.sequence
            try:
                if sequence.is_cancelled:
                    self._settle_draft(span, 0)
                else:
                    self._advance(span, row)
            except Exception as error:
                logger.exception("a sequence failed")
                self._desk.fail(sequence, f"choosing a token failed: {error!r}")

    def _settle_draft(self, span: Span, num_true: int) -> None:
        """Keep the cells of what came true and cut the others."""
        if not span.draft:
            return
        sequence = span.sequence
        self.scheduler.mark_accepted(span, num_true)
        self.counters.count_draft(len(span.draft), num_true)
        if num_true < len(span.draft):
            self._model.trim(sequence.seq_id, sequence.num_computed)

    def _advance(self, span: Span, first_row: int) -> None:
        sequence = span.sequence
        lane = self._desk.lanes[sequence]
        num_true, reason = lane.verify(span, first_row, self._model.logits)
        self._settle_draft(span, num_true)
        sequence.status = Status.DECODE
        self.counters.count_tokens(
            sequence, max(len(sequence.token_ids) - span.stop, 1), self._clock()
        )
        if reason is None:
            self._desk.emit(lane)
        else:
            self._desk.finish(sequence, reason)

    def _recover(self, spans: Many[Span]) -> None:
        """Find out what an aborted batch left; its last token is read again for its logits."""
        self.counters.aborted_chunks += 1
        for span in spans:
            sequence = span.sequence
            end = self._model.end_position(sequence.seq_id) if self._model.can_trim else 0
            self.scheduler.mark_cut(sequence, min(max(end, 0), sequence.num_useful))
            self._model.trim(sequence.seq_id, sequence.num_computed)

    def _make_room(self, spans: Many[Span]) -> None:
        """Free cells for the next step; a sequence that needs more than all ends by length."""
        held = self.scheduler.make_room()
        if held is None:
            self._desk.finish(spans[0].sequence, FinishReason.LENGTH)
            return
        self._keeper.keep(held, self._clock())
        self._model.trim(held.seq_id, 0)
        self.counters.evictions += 1

    def _fail_spans(self, spans: Many[Span], message: str) -> None:
        """End the sequences of a failed batch; what their cells hold is unknown."""
        logger.error("%s", message)
        for span in spans:
            self._desk.fail(span.sequence, message)
