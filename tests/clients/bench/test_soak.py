"""What a soak sends, and when it says that a server is not well."""

import pytest

from clients.bench.load import Measured
from clients.bench.soak import MOST_GROWTH_BYTES, asks, judge

FULL = 500 * 2**20


def answered(error=None):
    return Measured(label="all", total_seconds=1.0, piece_seconds=(0.5,), num_tokens=3, error=error)


def test_a_seed_gives_the_same_load_of_every_kind_with_clients_that_go():
    found = asks(3)
    assert found == asks(3)
    assert found != asks(4)
    assert {ask.kind for ask in found} == {"chat", "complete", "fim"}
    assert 0.3 < sum(ask.cancel_after_seconds is not None for ask in found) / len(found) < 0.5


def test_a_server_that_answers_and_stays_as_it_is_has_no_problem():
    done = judge([answered(), answered("cancelled")], [FULL] * 8, 0, 60.0)
    assert done.problems == []
    assert done.outcomes == {"answered": 1, "cancelled": 1}


@pytest.mark.parametrize(
    ("measured", "sizes", "busy", "word"),
    [
        ([answered(), answered("ServerError")], [FULL] * 8, 0, "ServerError"),
        ([answered()], [FULL] * 6 + [FULL + 2 * MOST_GROWTH_BYTES] * 2, 0, "grew"),
        ([answered()], [FULL] * 8, 1, "seats"),
        ([answered("cancelled")], [FULL] * 8, 0, "no request was answered"),
    ],
)
def test_whatever_is_not_well_is_named(measured, sizes, busy, word):
    [problem] = judge(measured, sizes, busy, 60.0).problems
    assert word in problem
