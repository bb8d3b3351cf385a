"""Threads are given up where that is faster, and taken back when the others have gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.engine.crowding import Crowding
from serve.engine.tuning import Clocks

SECONDS = {
    4: 0.01,
    3: 0.013,
    2: 0.018,
    1: 0.034,
}  # of a row, with so many threads on a machine of ours alone


class Machine:
    """Four cores. `num_free` of them compute for us; a thread without a core holds all up."""

    def __init__(self, most=4):
        self.wall = self.cpu = 0.0
        self.num_free = 4
        self.crowding = Crowding(
            self.set_threads, most, Clocks(wall=self.wall_clock, cpu=self.cpu_clock)
        )
        self.threads = most

    def set_threads(self, threads):
        self.threads = threads

    def wall_clock(self):
        return self.wall

    def cpu_clock(self):
        return self.cpu

    def compute(self, *, num_rows=1, is_prefill=False):
        self.crowding.begin()
        seconds = SECONDS[self.threads] * num_rows
        share = min(self.num_free / self.threads, 1.0)
        if share < 1:
            seconds *= 8
        self.wall += seconds
        self.cpu += seconds * self.threads * share * 0.98
        self.crowding.end(num_rows, is_prefill=is_prefill)
        return seconds

    def run(self, seconds, **call):
        until = self.wall + seconds
        while self.wall < until:
            self.compute(**call)


def test_on_a_machine_of_ours_alone_nothing_is_ever_tried():
    machine = Machine()
    seen = set()
    for _ in range(2000):
        machine.compute()
        seen.add(machine.threads)
    assert seen == {4}


@pytest.mark.parametrize("call", [{}, {"num_rows": 4}, {"num_rows": 64, "is_prefill": True}])
def test_when_others_want_cores_as_many_threads_compute_as_are_left(call):
    machine = Machine()
    machine.run(5, **call)
    machine.num_free = 2
    machine.run(30, **call)
    assert machine.threads == 2


def test_a_very_busy_machine_leaves_one():
    machine = Machine()
    machine.num_free = 1
    machine.run(30)
    assert machine.threads == machine.crowding.threads == 1


def test_when_the_others_have_gone_all_threads_come_back():
    machine = Machine()
    machine.num_free = 1
    machine.run(60)
    machine.num_free = 4
    machine.run(100)
    assert machine.threads == 4


def test_while_they_stay_trying_costs_little():
    machine = Machine()
    machine.num_free = 2
    machine.run(20)
    num_slow = num_calls = 0
    until = machine.wall + 200
    while machine.wall < until:
        machine.compute()
        num_calls += 1
        num_slow += machine.threads > 2
    assert num_slow / num_calls < 0.02


def test_fewer_threads_that_are_no_faster_are_not_kept():
    """As with threads that sleep while they wait: they take little of the processor anyway."""
    machine = Machine()
    machine.cpu_clock = lambda: 0.0
    machine.crowding = Crowding(
        machine.set_threads, 4, Clocks(wall=machine.wall_clock, cpu=machine.cpu_clock)
    )
    num_calls, num_full = 0, 0
    while machine.wall < 200:
        machine.compute()
        num_calls += 1
        num_full += machine.threads == 4
    assert num_full / num_calls > 0.95


def test_one_thread_is_left_alone():
    machine = Machine(most=1)
    machine.num_free = 0.2
    machine.run(20)
    assert machine.threads == 1


@given(st.lists(st.tuples(st.sampled_from([0.5, 1, 2, 4]), st.integers(1, 40)), max_size=12))
def test_the_number_stays_within_its_bounds_and_is_the_one_that_was_set(phases):
    machine = Machine()
    for num_free, seconds in phases:
        machine.num_free = num_free
        machine.run(seconds)
        assert machine.threads == machine.crowding.threads
        assert 1 <= machine.threads <= 4
