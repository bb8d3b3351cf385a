import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients.evaluate.estimators import mean_pass_at_k, paired_bootstrap, pass_at_k


@given(st.integers(1, 8), st.data())
def test_pass_at_k_equals_counting_every_draw(num_samples, data):
    num_passed = data.draw(st.integers(0, num_samples))
    k = data.draw(st.integers(1, num_samples))
    drawn = list(
        itertools.combinations([True] * num_passed + [False] * (num_samples - num_passed), k)
    )
    expected = sum(any(draw) for draw in drawn) / len(drawn)
    assert pass_at_k(num_samples, num_passed, k) == pytest.approx(expected)


@pytest.mark.parametrize("k", [0, 4])
def test_a_k_outside_the_samples_is_refused(k):
    with pytest.raises(ValueError, match="3 samples"):
        pass_at_k(3, 1, k)


def test_the_mean_weighs_problems_alike():
    assert mean_pass_at_k({"a": [True], "b": [False, False]}, 1) == 0.5


def test_equal_results_do_not_differ():
    made = {str(n): [n % 2 == 0] for n in range(20)}
    found = paired_bootstrap(made, made)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_clear_gain_excludes_zero_and_a_single_one_does_not():
    none = {str(n): [False] for n in range(40)}
    most = {str(n): [n < 30] for n in range(40)}
    one = {str(n): [n < 1] for n in range(40)}
    assert paired_bootstrap(none, most).low > 0
    assert paired_bootstrap(none, one).low == 0


def test_only_shared_problems_are_compared():
    found = paired_bootstrap({"a": [True], "b": [False]}, {"b": [True], "c": [False]})
    assert (found.num_problems, found.difference) == (1, 1.0)
    with pytest.raises(ValueError, match="in common"):
        paired_bootstrap({"a": [True]}, {"b": [True]})
