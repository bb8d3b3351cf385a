"""A lane that verifies drafts: what is drawn is drawn as if there were none."""

from __future__ import annotations

import numpy as np
import pytest

from serve.engine.batch import Span
from serve.engine.generation import Generation
from serve.engine.healing import Healing, Spellings
from serve.engine.lane import Lane
from serve.engine.request import GenerationRequest, SamplingParams
from serve.engine.sequence import Sequence

P = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
LOGITS = np.log(P).astype(np.float32)
CHI_SQUARE_LIMIT = 23.5  # four degrees of freedom, exceeded by chance once in ten thousand
NUM_TRIALS = 3000


class Words:
    @staticmethod
    def token_bytes(token_id):
        return bytes([97 + token_id])

    text_bytes = token_bytes


def verified(seed, draft):
    """Return what is said after one step with a draft."""
    sampling = SamplingParams(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed)
    request = GenerationRequest(prompt_token_ids=[0], sampling=sampling)
    sequence = Sequence(request, context_length=100, now=0.0)
    generation = Generation(sequence, None, event_limit=100, wake_worker=lambda: None)
    lane = Lane(generation, Words(), frozenset())
    lane.open()
    num_true, reason = lane.verify(Span(sequence, 0, 1, draft), 0, lambda _row: LOGITS)
    lane.close()
    said = sequence.token_ids[1:]
    assert reason is None
    assert said[:num_true] == list(draft[:num_true])
    assert len(said) == num_true + 1
    return said


def chi_square(token_ids):
    observed = np.bincount(token_ids, minlength=len(P))
    expected = P * len(token_ids)
    return float(((observed - expected) ** 2 / expected).sum())


@pytest.fixture(scope="module")
def answers():
    return [verified(seed, draft=(0, 1, 0)) for seed in range(NUM_TRIALS)]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_every_token_of_a_drafted_step_has_the_distribution_of_its_row(answers, position):
    reached = [said[position] for said in answers if len(said) > position]
    assert len(reached) > NUM_TRIALS * 0.1
    assert chi_square(reached) < CHI_SQUARE_LIMIT


def test_a_draft_comes_true_as_often_as_it_is_likely(answers):
    share = np.mean([len(said) > 1 for said in answers])
    assert share == pytest.approx(P[0], abs=0.04)


def test_the_same_seed_draws_the_same_tokens_with_and_without_a_draft():
    for seed in range(50):
        drafted = verified(seed, draft=(0, 1, 0, 0))
        assert verified(seed, draft=())[0] == drafted[0]


def test_a_draft_that_is_all_true_yields_one_token_more():
    lengths = {len(verified(seed, draft=(0,))) for seed in range(50)}
    assert lengths == {1, 2}


def test_an_answer_begins_with_half_a_word_that_does_not_come_out():
    request = GenerationRequest(
        prompt_token_ids=[0], sampling=SamplingParams(temperature=0.0), begins_with="db"
    )
    sequence = Sequence(request, context_length=100, now=0.0)
    generation = Generation(sequence, None, event_limit=100, wake_worker=lambda: None)
    spellings = Spellings(Words.text_bytes, len(P))
    lane = Lane(generation, Words(), frozenset(), healing=Healing(spellings, "db"))
    lane.open()
    for _ in range(3):
        lane.advance(LOGITS)
    lane.close()
    assert sequence.token_ids[1:] == [3, 1, 0]
    assert lane.take_delta().text == "a"
