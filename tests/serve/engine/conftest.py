"""A model that can be checked: its next token depends on every cell it holds, in order."""

from __future__ import annotations

import numpy as np
import pytest

from serve.engine.batch import MAX_DRAFT_ROWS, Outcome
from serve.engine.chunking import RowCosts
from serve.engine.crowding import Crowding
from serve.engine.decode_times import DecodeTimes
from serve.engine.drafts import Drafter
from serve.engine.errors import DecodeError
from serve.engine.generation import Generation
from serve.engine.keeper import Keeper
from serve.engine.lane import Lane
from serve.engine.prefix_cache import PrefixCache
from serve.engine.request import (
    Finished,
    GenerationRequest,
    Priority,
    SamplingParams,
    TextDelta,
)
from serve.engine.scheduler import Limits, Scheduler
from serve.engine.sequence import Sequence
from serve.engine.slots import SlotTable
from serve.engine.speculation import Speculation
from serve.engine.worker import Worker

END = 0
N_VOCAB = 256
TOKEN_BYTES = 8  # of a saved cell
GREEDY = SamplingParams(temperature=0)


class FakeVocabulary:
    def token_bytes(self, token_id):
        return bytes([token_id])

    def text_bytes(self, token_id):
        return b"" if token_id == END else bytes([97 + token_id % 26])


class FakeFlag:
    def __init__(self):
        self.is_raised = False

    def raise_(self):
        self.is_raised = True

    def lower(self):
        self.is_raised = False


class FakeModel:
    """Holds cells as lists and refuses any row that is not the next position of its sequence."""

    def __init__(
        self,
        *,
        n_batch=64,
        n_cells=10_000,
        can_trim=True,
        can_trim_restored=True,
        repeats_itself=False,
    ):
        self.repeats_itself = repeats_itself
        self.n_batch = n_batch
        self.n_cells = n_cells
        self.n_outputs_max = 256
        self.can_trim = can_trim
        self.can_trim_restored = can_trim and can_trim_restored
        self.restored = {}  # what may not be cut, when restored cells may not
        self.abort = FakeFlag()
        self.cells = {}
        self.batches = []  # one list of (seq_id, position, token_id) per computed batch
        self.during_decode = lambda rows: None
        self._logits = {}

    def next_token(self, token_ids):
        """Depends on all tokens; when it repeats itself, only now and then."""
        mixed = 17
        for token_id in token_ids:
            mixed = (mixed * 31 + token_id + 1) % 65_521
        if self.repeats_itself and mixed % 9:
            return token_ids[-1] % 5 + 1
        return mixed % N_VOCAB

    def decode(self, batch):
        rows = list(zip(batch.seq_ids, batch.positions, batch.token_ids, strict=True))
        assert 0 < len(rows) <= self.n_batch
        assert sum(batch.wants_logits) <= self.n_outputs_max
        if sum(map(len, self.cells.values())) + len(rows) > self.n_cells:
            return Outcome.NO_CELLS
        self.during_decode(rows)
        if self.abort.is_raised:
            self._leave_half_done(rows)
            return Outcome.ABORTED
        self._logits = {}
        for row, (seq_id, position, token_id) in enumerate(rows):
            held = self.cells.setdefault(seq_id, [])
            assert position == len(held), f"sequence {seq_id} was fed {position} after {len(held)}"
            held.append(token_id)
            if batch.wants_logits[row]:
                self._logits[row] = np.zeros(N_VOCAB, np.float32)
                self._logits[row][self.next_token(held)] = 9.0
        self.batches.append(rows)
        return Outcome.DONE

    def _leave_half_done(self, rows):
        for seq_id, _, token_id in rows[: len(rows) // 2]:
            self.cells.setdefault(seq_id, []).append(token_id)

    def logits(self, row):
        return self._logits[row]

    def trim(self, seq_id, start):
        held = self.cells.setdefault(seq_id, [])
        if not self.can_trim and 0 < start < len(held):
            raise DecodeError("cannot be cut")
        if start == 0:
            self.restored.pop(seq_id, None)
        assert start >= self.restored.get(seq_id, 0)
        del held[start:]

    def copy(self, source, target, stop):
        assert not self.cells.get(target)
        assert stop <= len(self.cells[source])
        assert stop >= self.restored.get(source, 0)
        self.cells[target] = self.cells[source][:stop]
        if source in self.restored:
            self.restored[target] = self.restored[source]

    def end_position(self, seq_id):
        return len(self.cells.get(seq_id, []))

    def state_bytes(self, seq_id):
        return TOKEN_BYTES * len(self.cells.get(seq_id, []))

    def save(self, seq_id):
        return np.repeat(np.array(self.cells[seq_id], np.uint16), TOKEN_BYTES // 2).view(np.uint8)

    def restore(self, seq_id, state):
        assert not self.cells.get(seq_id)
        held = state.view(np.uint16)[:: TOKEN_BYTES // 2].tolist()
        if sum(map(len, self.cells.values())) + len(held) > self.n_cells:
            return False
        self.cells[seq_id] = held
        if not self.can_trim_restored:
            self.restored[seq_id] = len(held)
        return True


class FakeLoop:
    """Runs what would be run on the event loop at once."""

    def call_soon_threadsafe(self, function, *args):
        function(*args)


class Harness:
    """A worker whose steps the test takes itself, on a clock that the test moves."""

    def __init__(
        self,
        *,
        n_slots=4,
        fim_slots=1,
        aging_seconds=2.0,
        headroom_tokens=0,
        cache_bytes=0,
        disk=None,
        drafts=False,
        **model,
    ):
        self.model = FakeModel(**model)
        self.now = 0.0
        self.loop = FakeLoop()
        self.slots = SlotTable(
            n_slots + fim_slots,
            can_trim=self.model.can_trim,
            can_trim_restored=self.model.can_trim_restored,
        )
        self.cache = PrefixCache(cache_bytes, can_trim=self.model.can_trim_restored, disk=disk)
        self.costs = RowCosts()
        limits = Limits(
            max_rows=self.model.n_batch,
            n_cells=self.model.n_cells,
            num_general=n_slots,
            aging_seconds=aging_seconds,
            headroom_tokens=headroom_tokens,
        )
        self.scheduler = Scheduler(self.slots, self.costs, limits, self.cache)
        self.keeper = Keeper(self.model, self.slots, self.cache, demote_seconds=2.0)
        self.drafts = drafts
        self.model.n_outputs_max = n_slots + fim_slots + MAX_DRAFT_ROWS
        self.times = DecodeTimes()
        speculation = Speculation(self.times, self.model.n_batch)
        crowding = Crowding(lambda _: None, 1)
        self.worker = Worker(
            self.model,
            self.scheduler,
            self.keeper,
            speculation=speculation,
            crowding=crowding,
            clock=lambda: self.now,
        )
        self.generations = []

    def request(self, prompt, *, priority=Priority.INTERACTIVE, **fields):
        fields.setdefault("sampling", GREEDY)
        return GenerationRequest(prompt_token_ids=list(prompt), priority=priority, **fields)

    def submit(
        self, prompt, *, context_length=1000, event_limit=10_000, loop=None, held=None, **fields
    ):
        request = self.request(prompt, **fields)
        sequence = Sequence(request, context_length=context_length, now=self.now)
        generation = Generation(
            sequence, loop or self.loop, event_limit=event_limit, wake_worker=self.worker.wake
        )
        drafter = Drafter(sequence, held) if self.drafts and request.drafts else None
        self.worker.submit(Lane(generation, FakeVocabulary(), frozenset({END}), held, drafter))
        self.generations.append(generation)
        return generation

    def step(self, seconds=0.01):
        self.now += seconds
        self.worker.step()

    def run(self, limit=10_000):
        for _ in range(limit):
            if not self.scheduler.has_work and not self.worker.mailbox._lanes:
                return
            self.step()
        raise AssertionError("the work does not end")

    @staticmethod
    def events(generation):
        queue = generation._events
        return [queue.get_nowait() for _ in range(queue.qsize())]

    @staticmethod
    def tokens(events):
        return [i for event in events if isinstance(event, TextDelta) for i in event.token_ids]

    @staticmethod
    def finished(events):
        assert [isinstance(event, Finished) for event in events].count(True) == 1
        assert isinstance(events[-1], Finished)
        return events[-1]

    def expected(self, prompt, max_tokens, context_length=1000):
        """Return what the model says after `prompt` when it is alone."""
        token_ids = list(prompt)
        while len(token_ids) - len(prompt) < max_tokens and len(token_ids) < context_length:
            token_ids.append(self.model.next_token(token_ids))
            if token_ids[-1] == END:
                break
        return token_ids[len(prompt) :]

    def act(self, kind, value):
        """Do what scripts of random actions have in common."""
        if kind == "cancel" and self.generations:
            self.generations[value % len(self.generations)].cancel()
        elif kind == "step":
            for _ in range(value):
                self.step()
                self.check_seats()
        elif kind == "pause":
            self.now += value
        elif kind == "abort":
            self.abort_once()

    def abort_once(self):
        """Make the next decode behave as if a newcomer had raised the flag in its midst."""

        def during_decode(_):
            self.model.abort.raise_()
            self.model.during_decode = lambda _: None

        self.model.during_decode = during_decode

    def check_seats(self):
        assert self.cache.what_is_wrong() is None
        used = [slot for slot in self.slots.slots if slot.sequence is not None]
        assert {slot.sequence for slot in used} == set(self.scheduler.running)
        for slot in used:
            assert slot.sequence.seq_id == slot.seq_id
            assert not slot.held_token_ids
        assert not set(self.scheduler.waiting) & set(self.scheduler.running)
        for slot in self.slots.slots:
            assert self.model.cells.get(slot.seq_id, []) == slot.token_ids()


class ByteTokenizer:
    """The fake model's vocabulary as llguidance wants it: a token is a byte, but for the end."""

    tokens = (b"<end>", *(bytes([i]) for i in range(1, N_VOCAB)))
    special_token_ids = (END,)
    eos_token_id = END
    bos_token_id = None

    def __call__(self, text):
        return list(text)


@pytest.fixture(scope="session")
def constraints():
    from llguidance import LLTokenizer, TokenizerWrapper

    from serve.engine.constraints import Constraints

    return Constraints(lambda: LLTokenizer(TokenizerWrapper(ByteTokenizer())))


@pytest.fixture(scope="session")
def make_harness():
    return Harness
