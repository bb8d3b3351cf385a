"""What a call of n rows is expected to take."""

from __future__ import annotations

import pytest

from serve.engine.decode_times import DecodeTimes


def test_before_anything_was_measured_more_rows_take_longer():
    times = DecodeTimes()
    estimates = [times.estimate(rows) for rows in (1, 2, 4, 8, 16, 32, 64)]
    assert estimates == sorted(estimates)
    assert not times.is_measured


def test_one_measurement_scales_all_estimates():
    times = DecodeTimes()
    ratio = times.estimate(16) / times.estimate(1)
    times.observe(1, 0.02)
    assert times.estimate(16) == pytest.approx(0.02 * ratio)


def test_between_two_measurements_lies_the_line():
    times = DecodeTimes()
    times.observe(4, 0.1)
    times.observe(12, 0.3)
    assert times.estimate(8) == pytest.approx(0.2)


def test_rows_beyond_four_count_in_groups_of_four():
    times = DecodeTimes()
    times.observe(5, 0.1)
    assert times.estimate(8) == times.estimate(6) == pytest.approx(0.1)


def test_one_disturbed_call_moves_little():
    times = DecodeTimes()
    times.observe(1, 0.01)
    times.observe(1, 1.0)
    assert times.estimate(1) < 0.012


def test_a_measurement_that_nobody_renewed_is_forgotten():
    times = DecodeTimes()
    times.observe(16, 100.0)
    for _ in range(300):
        times.observe(1, 0.01)
    assert times.estimate(16) < 0.1


def test_a_curve_timed_before_shapes_the_guess_and_its_own_measurements_scale_it():
    times = DecodeTimes({1: 0.01, 2: 0.011, 4: 0.012, 8: 0.02})
    assert not times.is_measured
    assert times.estimate(4) == pytest.approx(1.2)
    assert times.estimate(6) == pytest.approx(2.0)  # rows come in groups of four
    times.observe(1, 0.02)
    assert times.estimate(4) == pytest.approx(0.024)
    assert times.estimate(64) > times.estimate(32) > times.estimate(8)
