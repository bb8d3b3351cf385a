"""Threads and costs follow what a machine's clock says, and a busy machine decides nothing."""

from __future__ import annotations

import msgspec
import pytest

from serve.engine import machine
from serve.engine.chunking import SHARED_SECONDS, RowCosts
from serve.engine.tuning import Clocks, Effort, best_threads, measure
from serve.engine.tuning_store import keep, recall

TWICE = Effort(repeats=2, seconds=9.0)


class FakeMachine:
    """A model whose calls take `seconds(rows, threads)` and a processor that others share."""

    def __init__(self, seconds, *, n_batch=256, share=1.0):
        self.seconds = seconds
        self.n_batch = n_batch
        self.share = share
        self.threads = (1, 1)
        self.now = self.cpu = 0.0
        self.calls = []
        self.held = 0
        self.clocks = Clocks(wall=lambda: self.now, cpu=lambda: self.cpu)

    def set_threads(self, threads, threads_batch):
        self.threads = (threads, threads_batch)

    def decode(self, batch):
        assert self.held == 0
        threads = self.threads[len(batch) > 1]
        taken = self.seconds(len(batch), threads)
        self.now += taken
        self.cpu += taken * threads * self.share
        self.calls.append((len(batch), threads, sum(batch.wants_logits)))
        self.held = len(batch)

    def trim(self, seq_id, start):
        assert (seq_id, start) == (0, 0)
        self.held = 0

    def tune(self, *thread_counts, num_outputs=8, effort=TWICE):
        return measure(
            self, thread_counts, num_outputs=num_outputs, effort=effort, clocks=self.clocks
        )


def linear(rows, threads):
    return 0.002 + rows * 0.004 / threads


def test_the_number_of_threads_that_reads_fastest_is_kept_and_set():
    fake = FakeMachine(lambda rows, threads: linear(rows, {1: 1, 2: 2, 4: 3, 8: 1.5}[threads]))
    tuning = fake.tune(4, 8, 2, 1)
    assert (tuning.threads, tuning.threads_batch) == fake.threads == (4, 4)
    assert set(tuning.tried) <= {1, 2, 4, 8}


def test_of_equals_the_fewest_threads_are_kept():
    fake = FakeMachine(lambda rows, threads: linear(rows, min(threads, 2)))
    assert fake.tune(4, 2).threads == 2


def test_one_row_gets_threads_of_its_own_only_where_it_gains_a_good_deal():
    assert best_threads({4: (0.10, 1.0), 8: (0.11, 0.5)}) == (8, 8)
    assert best_threads({4: (0.10, 1.0), 8: (0.15, 0.5)}) == (4, 8)


def test_a_number_that_is_given_is_taken_without_a_try():
    fake = FakeMachine(linear)
    tuning = fake.tune(3)
    assert (tuning.threads, tuning.threads_batch, tuning.tried) == (3, 3, {})
    assert {threads for _, threads, _ in fake.calls} == {3}


def test_on_a_busy_machine_the_first_number_stays_and_the_figures_are_no_good():
    fake = FakeMachine(lambda rows, threads: linear(rows, 1 / threads), share=0.5)
    tuning = fake.tune(4, 1)
    assert (tuning.threads, tuning.is_quiet) == (4, False)
    assert FakeMachine(linear).tune(4, 2).is_quiet


def test_rows_and_chunks_cost_what_the_clock_says():
    fake = FakeMachine(linear)
    tuning = fake.tune(2)
    for rows, seconds in (tuning.row_seconds | tuning.chunk_seconds).items():
        assert seconds == pytest.approx(linear(rows, 2))
    assert list(tuning.row_seconds) == [1, 2, 4, 8, 16, 32]
    assert fake.held == 0


def test_no_more_rows_want_logits_than_there_are_seats():
    fake = FakeMachine(linear)
    fake.tune(2, num_outputs=5)
    assert max(num_outputs for _, _, num_outputs in fake.calls) == 5


@pytest.mark.parametrize(("n_batch", "longest"), [(64, 64), (100, 64), (4096, 512)])
def test_chunks_stay_within_the_batch_and_the_time_a_chunk_may_take(n_batch, longest):
    tuning = FakeMachine(linear, n_batch=n_batch).tune(2)
    assert max(tuning.chunk_seconds) == longest


def test_the_best_chunk_is_the_longest_of_the_fastest():
    def seconds(rows, _threads):
        return rows * {32: 0.004, 64: 0.00301, 128: 0.003, 256: 0.005}.get(rows, 0.01)

    tuning = FakeMachine(seconds).tune(2)
    assert tuning.best_chunk == 128
    assert tuning.seconds_per_prompt_row == pytest.approx(0.003)


def test_seeded_costs_size_the_first_chunk():
    costs = RowCosts()
    costs.seed(seconds_per_row=0.001, decode_seconds=0.1, best_chunk=128)
    assert costs.chunk_rows(others_wait=False, limit=512) == 128
    costs.seed(seconds_per_row=0.005, decode_seconds=0.1, best_chunk=128)
    shared = costs.chunk_rows(others_wait=True, limit=512)
    assert shared * 0.005 <= SHARED_SECONDS - 0.1 < (shared + 4) * 0.005


@pytest.fixture
def tuning():
    return FakeMachine(linear).tune(4, 2)


def test_kept_figures_come_back_whole(tmp_path, tuning):
    file = tmp_path / "new" / "folder" / "a.json"
    assert recall(file) is None
    keep(file, tuning)
    assert recall(file) == tuning
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"threads": 2}'])
def test_a_damaged_file_is_measured_anew(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    assert recall(file) is None


def test_figures_of_another_version_or_without_rows_are_not_used(tmp_path, tuning):
    for changes in ({"schema_version": 2}, {"row_seconds": {}}, {"chunk_seconds": {}}):
        keep(tmp_path / "a.json", msgspec.structs.replace(tuning, **changes))
        assert recall(tmp_path / "a.json") is None


def test_the_cores_are_tried_first_and_no_number_twice():
    counts = machine.thread_counts()
    assert counts[0] == machine.num_cores()
    assert len(set(counts)) == len(counts)
    assert min(counts) >= 1
    assert machine.num_hardware_threads() >= machine.num_cores()
    assert machine.processor()
