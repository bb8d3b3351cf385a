"""A step's shape follows from data, memory and processes; a schedule covers the run."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.config import TrainConfig
from finetune.data.tokens import Encoded
from finetune.errors import ConfigError
from finetune.steps import (
    MAX_STEP_TOKENS,
    MIN_STEP_TOKENS,
    StepShape,
    make_schedule,
    packed_shape,
    per_process,
    step_tokens,
)


def examples(count, length=10):
    return [Encoded(id=str(n), input_ids=[n] * length, labels=[n] * length) for n in range(count)]


@given(
    wanted=st.integers(256, 100_000),
    memory=st.integers(0, 100_000),
    longest=st.integers(1, 5_000),
    processes=st.sampled_from([1, 2, 3, 8]),
)
def test_rows_fit_memory_and_longest_example_and_share_out_evenly(
    wanted, memory, longest, processes
):
    shape = packed_shape(wanted, max_row_tokens=memory, longest=longest, num_processes=processes)
    assert shape.rows_per_step % processes == 0
    assert shape.row_tokens >= longest
    assert shape.row_tokens < max(memory, longest) + 256
    assert shape.row_tokens * shape.rows_per_step >= wanted


def test_a_step_is_as_configured_or_leaves_a_run_enough_steps():
    assert step_tokens(TrainConfig(step_tokens=5_000), 10**9) == 5_000
    assert step_tokens(TrainConfig(), 10**9) == MAX_STEP_TOKENS
    assert step_tokens(TrainConfig(), 1_000) == MIN_STEP_TOKENS
    assert step_tokens(TrainConfig(), 640_000) == 10_000
    assert step_tokens(TrainConfig(epochs=2), 640_000) == 20_000


def test_halving_keeps_the_step_until_the_longest_example_forbids_it():
    shape = StepShape(row_tokens=8_192, rows_per_step=1)
    assert shape.halved(1_000) == StepShape(row_tokens=4_096, rows_per_step=2)
    assert shape.halved(8_000) is None
    assert StepShape(row_tokens=0, rows_per_step=8).halved(10) is None


def test_a_schedule_has_every_example_of_its_epochs():
    shape = StepShape(row_tokens=0, rows_per_step=4)
    schedule = make_schedule(examples(10), TrainConfig(epochs=2), shape, pad_id=0)
    assert (schedule.num_steps, len(schedule.rows)) == (5, 20)
    assert schedule.tokens_until(2) == 80
    assert schedule.tokens_until(5) == 200
    assert schedule.epochs_until(5) == 2.0
    assert [row.examples for row in schedule.rows_of(2)] == [
        row.examples for row in schedule.rows[4:8]
    ]


def test_max_steps_goes_on_over_as_many_epochs_as_it_needs():
    shape = StepShape(row_tokens=0, rows_per_step=4)
    schedule = make_schedule(examples(10), TrainConfig(max_steps=7), shape, pad_id=0)
    assert (schedule.num_steps, len(schedule.rows)) == (7, 28)
    assert schedule.epochs_until(7) == pytest.approx(2.8)


def test_rows_that_cannot_be_shared_out_are_refused():
    shape = StepShape(row_tokens=256, rows_per_step=3)
    assert per_process(shape, 3) == 1
    with pytest.raises(ConfigError, match="3 rows, which 2 processes cannot share evenly"):
        per_process(shape, 2)
