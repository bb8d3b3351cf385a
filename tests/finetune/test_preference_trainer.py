"""The arithmetic of preferences; training on them is tested with the command."""

import math

import pytest

from finetune.preference_trainer import gains_nats, preference_loss_nats


def test_nothing_gained_costs_the_logarithm_of_two():
    assert preference_loss_nats([0.0, 0.0], 0.1) == pytest.approx(math.log(2))
    assert preference_loss_nats([1.0], 2.0) == pytest.approx(-math.log(1 / (1 + math.exp(-2))))
    assert preference_loss_nats([-10_000.0], 1.0) == 10_000.0


def test_a_gain_is_counted_against_where_training_began():
    assert gains_nats([(-5.0, -3.0)], [(-4.0, -6.0)]) == [4.0]
