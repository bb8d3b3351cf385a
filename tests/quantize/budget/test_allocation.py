"""A choice stays within its bytes, comes near the best there is, and spends what is left."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantize.budget.allocation import Choice, allocate, hull
from quantize.errors import BudgetError

choices = st.lists(
    st.builds(
        Choice,
        type_name=st.just("t"),
        num_bytes=st.integers(1, 40).map(lambda units: units * 32),
        cost=st.floats(0, 10),
    ),
    min_size=1,
    max_size=4,
)
offers = st.dictionaries(st.sampled_from("abcd"), choices, min_size=1, max_size=4)


def exact(offered, capacity):
    costs = [
        sum(choice.cost for choice in pick)
        for pick in itertools.product(*offered.values())
        if sum(choice.num_bytes for choice in pick) <= capacity
    ]
    return min(costs, default=None)


@given(offers, st.integers(0, 4000))
def test_a_choice_fits_and_is_at_most_one_upgrade_from_the_best(offered, capacity):
    best = exact(offered, capacity)
    if best is None:
        with pytest.raises(BudgetError, match="the smallest choice of types takes"):
            allocate(offered, capacity)
        return
    found = allocate(offered, capacity)
    assert found.num_bytes <= capacity
    largest_step = max(
        max(choice.cost for choice in held) - min(choice.cost for choice in held)
        for held in offered.values()
    )
    assert best - 1e-9 <= found.cost <= best + largest_step + 1e-9


@given(offers)
def test_with_room_for_everything_each_takes_its_best(offered):
    found = allocate(offered, 10**9)
    assert found.cost == pytest.approx(sum(min(c.cost for c in held) for held in offered.values()))


@given(choices)
def test_a_hull_falls_ever_less_steeply(held):
    corners = hull(held)
    slopes = [
        (low.cost - high.cost) / (high.num_bytes - low.num_bytes)
        for low, high in itertools.pairwise(corners)
    ]
    assert all(slope > 0 for slope in slopes)
    assert slopes == sorted(slopes, reverse=True)
    assert min(c.cost for c in held) == corners[-1].cost


def test_bytes_left_over_are_spent_on_what_still_fits():
    small, large = "small", "large"
    offered = {
        small: [_choice("low", 32, 1.0), _choice("high", 64, 0.9)],
        large: [_choice("low", 320, 9.0), _choice("high", 3200, 1.0)],
    }
    assert allocate(offered, 400).types == {small: "high", large: "low"}


def _choice(name, num_bytes, cost):
    return Choice(type_name=name, num_bytes=num_bytes, cost=cost)
