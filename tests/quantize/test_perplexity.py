"""Scores are what their definitions say, shown on models small enough to do by hand."""

import numpy as np
import pytest

from quantize.errors import SourceError
from quantize.examples import ScoredText
from quantize.perplexity import LiveReference, score, score_alone, score_reference

TEXTS = [
    ScoredText(prompt_token_ids=[0, 1], response_token_ids=[2, 3, 0]),
    ScoredText(prompt_token_ids=[3], response_token_ids=[1]),
]


class FakeModel:
    """Give each token a fixed row of logits, in chunks of two rows."""

    def __init__(self, rows):
        self.rows = np.asarray(rows, dtype=np.float32)
        self.n_vocab = self.rows.shape[1]
        self.decoded = []

    def reset(self):
        self.decoded.append([])

    def decode(self, token_ids, *, first_logits):
        self.decoded[-1] += token_ids
        wanted = self.rows[list(token_ids)][first_logits:]
        for start in range(0, len(wanted), 2):
            yield wanted[start : start + 2]


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    quality, kept = score_reference(FakeModel(np.zeros((4, 4))), TEXTS)
    kept.close()
    assert quality.perplexity == pytest.approx(4)
    assert quality.num_scored_tokens == 4
    assert quality.mean_kld_nats is None


def test_only_the_tokens_before_each_response_token_are_read():
    model = FakeModel(np.zeros((4, 4)))
    _, kept = score_reference(model, TEXTS)
    kept.close()
    assert model.decoded == [[0, 1, 2, 3], [3]]


def test_a_model_is_no_distance_from_itself():
    rows = np.random.default_rng(1).normal(size=(4, 4))
    first, kept = score_reference(FakeModel(rows), TEXTS)
    again = score(FakeModel(rows), TEXTS, kept)
    kept.close()
    assert again.mean_kld_nats == pytest.approx(0, abs=1e-9)
    assert again.top1_agreement == 1
    assert again.perplexity_ratio == pytest.approx(1)
    assert again.perplexity == pytest.approx(first.perplexity)


def test_the_divergence_is_the_definitions():
    p, q = np.log([0.5, 0.25, 0.125, 0.125]), np.log([0.25, 0.5, 0.125, 0.125])
    _, kept = score_reference(FakeModel(np.tile(p, (4, 1))), TEXTS)
    quality = score(FakeModel(np.tile(q, (4, 1)) + 3.0), TEXTS, kept)
    kept.close()
    expected = float(np.sum(np.exp(p) * (p - q)))
    assert quality.mean_kld_nats == pytest.approx(expected, rel=1e-5)
    assert quality.max_kld_nats == pytest.approx(expected, rel=1e-5)
    assert quality.top1_agreement == 0


def test_no_text_is_refused():
    with pytest.raises(SourceError, match="nothing to score"):
        score_reference(FakeModel(np.zeros((4, 4))), [])


def test_a_reference_decoded_beside_gives_the_same_figures_as_a_kept_one():
    random = np.random.default_rng(2)
    p, q = random.normal(size=(4, 4)), random.normal(size=(4, 4))
    first, kept = score_reference(FakeModel(p), TEXTS)
    stored = score(FakeModel(q), TEXTS, kept)
    kept.close()
    assert score(FakeModel(q), TEXTS, LiveReference(FakeModel(p), TEXTS)) == stored
    assert score_alone(FakeModel(p), TEXTS) == first


def test_the_ratios_error_is_that_of_paired_differences():
    random = np.random.default_rng(3)
    p, q = random.normal(size=(4, 4)), random.normal(size=(4, 4))
    quality = score(FakeModel(q), TEXTS, LiveReference(FakeModel(p), TEXTS))

    def loss(rows, before, token):
        return np.log(np.exp(rows[before]).sum()) - rows[before][token]

    pairs = [(1, 2), (2, 3), (3, 0), (3, 1)]
    worse = np.array([loss(q, *pair) - loss(p, *pair) for pair in pairs])
    assert quality.perplexity_ratio == pytest.approx(np.exp(worse.mean()), rel=1e-5)
    error = np.exp(worse.mean()) * worse.std(ddof=1) / 2
    assert quality.perplexity_ratio_error == pytest.approx(error, rel=1e-4)
    assert score(
        FakeModel(p), TEXTS, LiveReference(FakeModel(p), TEXTS)
    ).perplexity_ratio_error == pytest.approx(0, abs=1e-9)
