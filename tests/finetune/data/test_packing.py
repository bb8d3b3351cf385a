"""Rows hold every example once an epoch, whole, and are of one length."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.packing import epoch_order, rows_of_epochs
from finetune.data.tokens import IGNORED, Encoded


def examples(lengths):
    return [
        Encoded(id=str(n), input_ids=[n + 1] * length, labels=[n + 1] * length)
        for n, length in enumerate(lengths)
    ]


lengths = st.lists(st.integers(1, 64), min_size=1, max_size=60)


@given(lengths=lengths, seed=st.integers(0, 3))
def test_each_epoch_holds_every_example_once_and_whole(lengths, seed):
    encoded = examples(lengths)
    for rows in islice(rows_of_epochs(encoded, row_tokens=64, pad_id=0, seed=seed), 2):
        assert Counter(index for row in rows for index in row.examples) == Counter(
            range(len(encoded))
        )
        for row in rows:
            assert len(row.input_ids) == len(row.labels) == sum(row.seq_lengths) == 64
            assert row.num_tokens == sum(encoded[index].num_tokens for index in row.examples)
            start = 0
            for index, length in zip(row.examples, row.seq_lengths, strict=False):
                assert row.input_ids[start : start + length] == encoded[index].input_ids
                start += length
            assert row.labels[start:] == [IGNORED] * (64 - start)


@given(lengths=lengths)
def test_packing_wastes_less_than_half(lengths):
    (rows,) = islice(rows_of_epochs(examples(lengths), row_tokens=64, pad_id=0, seed=0), 1)
    assert len(rows) <= 2 * sum(lengths) / 64 + 1


def test_long_and_short_examples_come_mixed_throughout_an_epoch():
    lengths = [5 + number % 46 for number in range(800)]
    (rows,) = islice(rows_of_epochs(examples(lengths), row_tokens=500, pad_id=0, seed=0), 1)
    means = [row.num_tokens / len(row.examples) for row in rows[:-1]]
    assert sum(lengths) / len(rows) > 480
    assert min(means) > 20
    assert max(means) < 40
    half = len(means) // 2
    assert sum(means[:half]) / half == pytest.approx(
        sum(means[half:]) / (len(means) - half), rel=0.1
    )


def test_unpacked_rows_are_the_examples_in_the_epochs_order():
    encoded = examples([3, 5, 4])
    first, second = islice(rows_of_epochs(encoded, row_tokens=0, pad_id=0, seed=1), 2)
    for epoch, rows in enumerate((first, second)):
        order = epoch_order(3, seed=1, epoch=epoch)
        assert [row.examples for row in rows] == [[index] for index in order]
        assert [row.input_ids for row in rows] == [encoded[index].input_ids for index in order]


def test_epochs_differ_and_the_same_seed_gives_the_same_order():
    orders = [epoch_order(50, seed=7, epoch=epoch) for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert orders[0] == epoch_order(50, seed=7, epoch=0)
    assert orders[0] != epoch_order(50, seed=8, epoch=0)
