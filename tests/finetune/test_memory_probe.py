"""Two measured rows decide how long a row may be."""

import pytest

from finetune.memory_probe import LONG, SHORT, fit_costs

GIB = 2**30


def test_the_line_through_two_peaks_tells_the_longest_row():
    costs = fit_costs(4 * GIB, 4 * GIB + (LONG - SHORT) * 2**20, 0.1, 10 * GIB)
    assert costs.bytes_per_token == 2**20
    assert costs.bytes_of(LONG) == pytest.approx(4 * GIB + (LONG - SHORT) * 2**20)
    assert costs.bytes_of(costs.max_row_tokens) <= 10 * GIB
    assert costs.bytes_of(costs.max_row_tokens + 1) > 10 * GIB
    assert costs.tokens_per_second == pytest.approx(LONG / 0.1)


def test_no_room_at_all_gives_no_row():
    assert fit_costs(8 * GIB, 9 * GIB, 0.1, 4 * GIB).max_row_tokens == 0
