"""Odds of a guess: learned by agreement, and what they make of a draft."""

from __future__ import annotations

import pytest

from serve.engine.acceptance import MAX_AGREEMENT, Acceptance


def test_longer_agreement_makes_a_guess_likelier_before_anything_was_seen():
    acceptance = Acceptance()
    odds = [acceptance.odds(agreement) for agreement in range(MAX_AGREEMENT + 5)]
    assert odds == sorted(odds)
    assert odds[3] < 0.5
    assert 0.9 < odds[-1] < 1


def test_what_comes_true_moves_its_own_class_only():
    acceptance = Acceptance()
    before = acceptance.odds(20)
    for _ in range(100):
        acceptance.observe(3, is_hit=True)
    assert acceptance.odds(4) > 0.9
    assert acceptance.odds(20) == before


def test_the_past_is_forgotten():
    acceptance = Acceptance()
    for _ in range(1000):
        acceptance.observe(20, is_hit=True)
    for _ in range(100):
        acceptance.observe(20, is_hit=False)
    assert acceptance.odds(20) < 0.3


def test_a_draft_yields_one_token_and_one_more_for_every_guess_in_a_row():
    acceptance = Acceptance()
    odds = acceptance.odds(MAX_AGREEMENT)
    expected = acceptance.expected_tokens(MAX_AGREEMENT, 2)
    assert expected == pytest.approx([1, 1 + odds, 1 + odds + odds**2])
