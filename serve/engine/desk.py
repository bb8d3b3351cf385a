"""Who is being answered: lanes come in, text goes out, and every one of them ends exactly once.

Lives on the worker thread. Frees seats and cells at the end; computes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve.engine.generation import Outbox
from serve.engine.request import FinishReason, TextDelta
from serve.engine.sequence import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from serve.engine.decoder import Decoder
    from serve.engine.lane import Lane
    from serve.engine.scheduler import Scheduler
    from serve.engine.sequence import Sequence
    from serve.engine.stats import Counters


class Desk:
    """The lanes of all unfinished sequences. `on_finished` is called at each one's end."""

    def __init__(
        self,
        model: Decoder,
        scheduler: Scheduler,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self.lanes: dict[Sequence, Lane] = {}
        self.on_finished: Callable[[], None] = lambda: None
        self._model = model
        self._scheduler = scheduler
        self._counters = counters
        self._clock = clock
        self._outbox = Outbox()

    def enter(self, lane: Lane) -> None:
        """Queue a sequence and make its sampler."""
        self.lanes[lane.sequence] = lane
        self._scheduler.add(lane.sequence)
        try:
            lane.open()
        except Exception as error:  # noqa: BLE001  # one request's failure stays its own
            self.fail(lane.sequence, f"the sampler could not be made: {error}")

    def drop_cancelled(self) -> None:
        """End those that nobody reads any more."""
        for sequence in [each for each in self.lanes if each.is_cancelled]:
            self.finish(sequence, FinishReason.CANCELLED)

    def emit(self, lane: Lane) -> None:
        """Hand over the text that became certain, if any did."""
        delta = lane.take_delta()
        if delta is not None:
            self._outbox.post(lane.generation, delta)

    def report(self, sequence: Sequence) -> None:
        """Hand over how far its prompt is read, to who asked; one read again has told already."""
        lane = self.lanes.get(sequence)
        wanted = sequence.request.reports_progress and not sequence.num_output_tokens
        if lane is not None and wanted:
            self._outbox.post(lane.generation, TextDelta("", (), progress=lane.progress()))

    def flush(self) -> None:
        """Wake the readers of what was handed over."""
        self._outbox.flush()

    def fail(self, sequence: Sequence, message: str) -> None:
        """End a sequence whose cells nobody can trust."""
        if sequence.is_seated:
            self._model.trim(sequence.seq_id, 0)
        self.finish(sequence, FinishReason.ERROR, error=message)

    def finish(self, sequence: Sequence, reason: FinishReason, *, error: str | None = None) -> None:
        """Free the seat, hand over the rest of the text and the end."""
        lane = self.lanes[sequence]
        if sequence.is_scored and sequence.is_seated:
            self._model.trim(sequence.seq_id, 0)
        is_kept = error is None and not sequence.is_scored
        self._scheduler.finish(sequence, reason, self._clock(), keep_cells=is_kept)
        delta = lane.take_delta(is_last=True) if error is None else None
        if delta is not None:
            self._outbox.post(lane.generation, delta)
        self._close(lane, error)
        del self.lanes[sequence]

    def fail_all(self, late: Iterable[Lane], reason: str) -> None:
        """Give every reader its end, `late` ones too; the context is not touched any more."""
        self.lanes |= {lane.sequence: lane for lane in late}
        for sequence, lane in self.lanes.items():
            if sequence.status is not Status.FINISHED:
                sequence.finish(FinishReason.ERROR, self._clock())
            self._close(lane, reason)
        self.lanes.clear()
        self.flush()

    def _close(self, lane: Lane, error: str | None) -> None:
        lane.close()
        self._counters.count_finished(lane.sequence)
        self._outbox.post(lane.generation, lane.finished(error))
        self.on_finished()
