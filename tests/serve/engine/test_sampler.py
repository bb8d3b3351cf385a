"""Tokens are chosen as the parameters say, and nonsense is refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.errors import InvalidSamplingError
from serve.engine.logprobs import token_logprob
from serve.engine.request import SamplingParams
from serve.engine.sampler import Sampler, check_sampling

N_VOCAB = 1000
PLAIN = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.fixture
def logits():
    return np.random.default_rng(1).normal(0, 3, N_VOCAB).astype(np.float32)


def draw(logits, count, **params):
    sampler = Sampler(SamplingParams(**params))
    tokens = [sampler.sample(logits) for _ in range(count)]
    sampler.close()
    return tokens


def test_temperature_zero_takes_the_largest(logits):
    assert draw(logits, 3, temperature=0) == [int(logits.argmax())] * 3


def test_the_same_seed_draws_the_same_tokens_and_another_does_not(logits):
    same = [draw(logits, 30, temperature=1.5, seed=7, **PLAIN) for _ in range(2)]
    assert same[0] == same[1] != draw(logits, 30, temperature=1.5, seed=8, **PLAIN)


def test_no_seed_draws_anew(logits):
    assert draw(logits, 40, temperature=2, **PLAIN) != draw(logits, 40, temperature=2, **PLAIN)


def test_top_k_draws_from_the_k_largest_only(logits):
    largest = set(np.argsort(-logits)[:5].tolist())
    assert set(draw(logits, 200, temperature=3, top_k=5, top_p=1.0, min_p=0.0, seed=1)) == largest


def test_top_p_draws_from_the_smallest_set_that_holds_the_mass(logits):
    order = np.argsort(-logits)
    mass = np.cumsum(np.exp(logits[order] - logits.max()))
    mass /= np.exp(logits - logits.max()).sum()
    nucleus = set(order[: int(np.searchsorted(mass, 0.5)) + 1].tolist())
    tokens = set(draw(logits, 300, temperature=1, top_k=0, top_p=0.5, min_p=0.0, seed=1))
    assert tokens <= nucleus


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0.2, "top_k": 40, "top_p": 0.95, "min_p": 0.05},
        {"temperature": 1.3, "top_k": 5, "top_p": 1.0, "min_p": 0.0},
        {"temperature": 1.0, "top_k": 900, "top_p": 1.0, "min_p": 0.0},
        {"temperature": 0.3, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.1},
        {"temperature": 1.5, "top_k": 0, "top_p": 0.9, "min_p": 0.0},
        {"temperature": 0.7, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 0.9},
    ],
)
def test_leaving_out_what_cannot_be_drawn_changes_no_draw(params):
    rng = np.random.default_rng(3)
    rows = [rng.normal(0, spread, N_VOCAB).astype(np.float32) for spread in (1, 3, 9) * 20]
    pruned, whole = (Sampler(SamplingParams(seed=5, **params)) for _ in range(2))
    whole._chain._ranges = (math.inf,)
    assert [pruned.sample(row) for row in rows] == [whole.sample(row) for row in rows]
    for sampler in (pruned, whole):
        sampler.close()


def test_min_p_drops_what_is_unlikely_beside_the_best(logits):
    allowed = set(np.flatnonzero(logits >= logits.max() + math.log(0.3)).tolist())
    tokens = draw(logits, 200, temperature=1, top_k=0, top_p=1.0, min_p=0.3, seed=1)
    assert set(tokens) <= allowed


def test_draws_follow_the_softmax():
    logits = np.full(N_VOCAB, -30, np.float32)
    logits[:3] = np.log([0.6, 0.3, 0.1])
    tokens = draw(logits, 4000, temperature=1, seed=3, **PLAIN)
    shares = np.bincount(tokens, minlength=3) / len(tokens)
    assert shares[:3] == pytest.approx([0.6, 0.3, 0.1], abs=0.03)


def test_a_hot_temperature_still_offers_far_off_tokens():
    logits = np.zeros(N_VOCAB, np.float32)
    logits[0] = 50.0
    assert len(set(draw(logits, 50, temperature=100, seed=1, **PLAIN))) > 10


def test_a_bias_can_force_and_ban_a_token(logits):
    assert draw(logits, 1, temperature=0, logit_bias={3: 100.0}) == [3]
    best = int(logits.argmax())
    assert best not in draw(logits, 50, temperature=1, logit_bias={best: -math.inf}, seed=1)


def test_banned_tokens_never_come(logits):
    best = int(logits.argmax())
    sampler = Sampler(SamplingParams(temperature=0), banned_token_ids=[best])
    assert sampler.sample(logits) != best


def test_presence_counts_once_and_frequency_each_time():
    logits = np.zeros(4, np.float32)
    logits[:3] = [1.0, 0.5, 0.1]
    assert draw(logits, 4, temperature=0, presence_penalty=0.7) == [0, 1, 0, 0]
    assert draw(logits, 4, temperature=0, frequency_penalty=0.7) == [0, 1, 0, 2]


def test_penalties_of_openai_do_not_count_the_prompt_and_the_repeat_penalty_does():
    logits = np.array([1.0, 0.9, 0.0], np.float32)
    openai = Sampler(SamplingParams(temperature=0, presence_penalty=1), prompt_token_ids=[0])
    assert openai.sample(logits) == 0
    repeat = Sampler(SamplingParams(temperature=0, repeat_penalty=2), prompt_token_ids=[0])
    assert repeat.sample(logits) == 1


def test_the_repeat_penalty_looks_back_only_so_far():
    logits = np.array([1.0, 0.9, 0.0], np.float32)
    params = SamplingParams(temperature=0, repeat_penalty=2, repeat_last_n=1)
    assert Sampler(params, prompt_token_ids=[0, 2]).sample(logits) == 0


def test_logits_stay_as_they_were(logits):
    before = logits.copy()
    draw(logits, 5, temperature=1, logit_bias={1: 5.0}, repeat_penalty=1.3, seed=1)
    assert np.array_equal(logits, before)


@settings(max_examples=50)
@given(st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=50), st.integers(0, 8))
def test_logprobs_are_the_log_softmax(values, num_top):
    logits = np.array(values, np.float32)
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    told = token_logprob(logits, 1, num_top, lambda token_id: b"%d" % token_id)
    assert told.logprob == pytest.approx(exact[1], abs=1e-4)
    best = sorted(range(len(values)), key=lambda i: (-logits[i], i))[:num_top]
    assert [top.logprob for top in told.top] == pytest.approx([exact[i] for i in best], abs=1e-4)


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("typical_p", 0.0),
        ("frequency_penalty", 2.5),
        ("presence_penalty", -2.5),
        ("repeat_penalty", 0.0),
        ("repeat_last_n", -2),
        ("logprobs", -1),
        ("logit_bias", {N_VOCAB: 1.0}),
        ("logit_bias", {1: math.nan}),
    ],
)
def test_nonsense_is_refused_by_name(param, value):
    with pytest.raises(InvalidSamplingError) as refused:
        check_sampling(SamplingParams(**{param: value}), N_VOCAB)
    assert refused.value.param == param
    assert param in str(refused.value)


def test_defaults_and_edges_are_accepted():
    check_sampling(SamplingParams(), N_VOCAB)
    check_sampling(SamplingParams(temperature=0, top_k=-1, top_p=1, min_p=1, seed=-1), N_VOCAB)


def test_chances_are_what_the_filters_left_the_draw(logits):
    sampler = Sampler(SamplingParams(temperature=0.5, top_k=4, top_p=1.0, min_p=0.0, seed=1))
    token_id = sampler.sample(logits)
    chances = sampler.chances()
    sampler.close()
    best = np.argsort(-logits)[:4]
    weights = np.exp((logits[best].astype(float) - logits.max()) / 0.5)
    assert [i for i, _ in chances] == best.tolist()
    assert [p for _, p in chances] == pytest.approx((weights / weights.sum()).tolist(), rel=1e-4)
    assert token_id in dict(chances)


def test_a_greedy_choice_was_the_only_one(logits):
    sampler = Sampler(SamplingParams(temperature=0))
    assert [(sampler.sample(logits), 1.0)] == sampler.chances()


def test_a_temperature_next_to_zero_leaves_one_chance(logits):
    sampler = Sampler(SamplingParams(temperature=1e-40))
    token_id = sampler.sample(logits)
    assert sampler.chances() == [(token_id, 1.0)]
    sampler.close()


@pytest.mark.parametrize("bias", [1e39, -1e39, math.inf, math.nan])
def test_a_bias_that_no_logit_can_hold_is_refused(bias):
    with pytest.raises(InvalidSamplingError):
        check_sampling(SamplingParams(logit_bias={1: bias}), N_VOCAB)
