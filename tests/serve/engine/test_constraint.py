"""Constrained answers of the fake model, step by step, and the distribution of what is drawn."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.errors import EngineError
from serve.engine.request import Constraint, FinishReason, SamplingParams
from serve.engine.sampler import Sampler

GREEDY = SamplingParams(temperature=0)
LONG = "a constant that leaves the model no choice at all"


def schema(value, **more):
    return Constraint(kind="json_schema", source=json.dumps(value), **more)


def regex(source, **more):
    return Constraint(kind="regex", source=source, **more)


def said(harness, generation):
    return bytes(harness.tokens(harness.events(generation)))


class Told:
    """A constraint that allows these tokens, and counts how often it is asked for all of them."""

    is_held = True

    def __init__(self, *token_ids):
        self.token_ids = token_ids
        self.num_masks = 0

    def allows(self, token_id):
        return token_id in self.token_ids

    def masked(self, logits):
        self.num_masks += 1
        masked = np.full_like(logits, -np.inf)
        masked[list(self.token_ids)] = logits[list(self.token_ids)]
        return masked


@pytest.fixture
def answer(make_harness, constraints):
    """Return what the fake model says under a constraint, and how it ended."""

    def get(constraint, *, harness=None, prompt=(7, 8), **fields):
        harness = harness or make_harness()
        held = constraints.start(constraint)
        generation = harness.submit(prompt, held=held, **{"max_tokens": 400} | fields)
        harness.run()
        events = harness.events(generation)
        return bytes(harness.tokens(events)), harness.finished(events)

    return get


def test_an_answer_follows_its_schema_and_stops_at_its_end(answer):
    text, finished = answer(
        schema(
            {
                "type": "object",
                "properties": {"a": {"enum": [LONG]}},
                "required": ["a"],
                "additionalProperties": False,
            }
        )
    )
    assert json.loads(text) == {"a": LONG}
    assert finished.reason is FinishReason.STOP
    assert finished.num_completion_tokens == len(text)  # no token was spent on the end


def test_forced_tokens_are_read_in_one_call(answer, make_harness):
    harness = make_harness()
    answer(regex(f"x{LONG[:20]}[ab]"), harness=harness)
    assert max(len(batch) for batch in harness.model.batches) == 21


@pytest.mark.parametrize("n_batch", [4, 9])
def test_more_forced_tokens_than_a_batch_holds_are_read_in_several(answer, make_harness, n_batch):
    harness = make_harness(n_batch=n_batch, n_slots=2)
    text, _ = answer(regex(f"x{LONG}[ab]y"), harness=harness)
    assert text.startswith(b"x" + LONG.encode())
    assert len(text) == len(LONG) + 3


def test_the_token_limit_ends_an_answer_in_the_middle_of_what_is_forced(answer):
    text, finished = answer(regex(f"x{LONG}"), max_tokens=5)
    assert text == b"x" + LONG[:4].encode()
    assert finished.reason is FinishReason.LENGTH
    assert finished.num_completion_tokens == 5


def test_a_stop_string_ends_a_constrained_answer(make_harness, constraints):
    harness = make_harness()
    # The fake vocabulary shows token 98 as the letter u.
    generation = harness.submit((7,), held=constraints.start(regex("a{3}b{9}")), stop=("uu",))
    harness.run()
    finished = harness.finished(harness.events(generation))
    assert finished.reason is FinishReason.STOP
    assert finished.stop_text == "uu"
    assert finished.num_completion_tokens == 5


def test_the_end_may_come_exactly_where_the_source_may_end(constraints):
    state = constraints.start(regex("ab*"))
    assert not state.allows(0)
    assert state.masked(np.zeros(256, np.float32))[0] == -np.inf
    state.accept(97, b"a")
    assert state.allows(0)
    assert state.masked(np.zeros(256, np.float32))[0] == 0
    assert not state.is_over  # more may come


def test_an_answer_that_ignores_the_end_stops_when_nothing_else_may_come(answer):
    text, finished = answer(regex("[ab]{6}"), ignore_eos=True)
    assert len(text) == 6
    assert finished.reason is FinishReason.STOP


def test_logprobs_come_for_every_token_of_a_constrained_answer(make_harness, constraints):
    harness = make_harness()
    sampling = SamplingParams(temperature=0, logprobs=2)
    held = constraints.start(regex(LONG[:12]))
    generation = harness.submit((7,), held=held, sampling=sampling)
    harness.run()
    deltas = harness.events(generation)[:-1]
    entries = [entry for delta in deltas for entry in delta.logprobs]
    assert bytes(entry.token_id for entry in entries) == LONG[:12].encode()


def spelled(token_ids):
    return "".join(f"\\x{token_id:02x}" for token_id in token_ids)


def test_free_text_stays_what_the_model_says_until_the_trigger(make_harness, constraints):
    harness = make_harness()
    free = harness.expected((7, 8), 12)
    lazy = regex("[ab]{8}c", trigger=spelled(free[4:6]), once=True)
    generation = harness.submit((7, 8), held=constraints.start(lazy), max_tokens=50)
    harness.run()
    text = said(harness, generation)
    assert text[:6] == bytes(free[:6])
    assert len(text) == 6 + 9
    assert text.endswith(b"c")


def test_the_text_is_free_again_after_the_end_of_what_was_triggered(constraints):
    state = constraints.start(regex("a{3}", trigger="<"))
    for byte in b"x<aaaz<aaa":
        assert state.is_held == (state.forced() != ())
        if state.is_held:
            assert state.forced()[0] == byte
        state.accept(byte, bytes([byte]))
    assert not state.is_held
    assert not state.is_over


def test_text_that_a_token_brings_beyond_the_trigger_is_followed_too(constraints):
    state = constraints.start(regex("abc", trigger="<call>"))
    state.accept(5, b"so: <call>a")
    assert bytes(state.forced()) == b"bc"


def test_text_beyond_the_trigger_that_fits_nothing_leaves_the_answer_free(constraints):
    state = constraints.start(regex("abc", trigger="<call>"))
    state.accept(5, b"<call>x")
    assert not state.is_held


def test_a_trigger_at_the_beginning_is_no_trigger_later(constraints):
    state = constraints.start(regex(r"\{a\}", trigger=r"\A\s*(?=\{)"))
    for byte in b"so {":
        state.accept(byte, bytes([byte]))
    assert not state.is_held
    state = constraints.start(regex(r"\{a\}", trigger=r"\A\s*(?=\{)"))
    for byte in b"  {":
        state.accept(byte, bytes([byte]))
    assert state.is_held
    assert bytes(state.forced()) == b"a}"


def test_a_long_free_text_finds_its_trigger_and_keeps_little(constraints):
    state = constraints.start(regex("abc", trigger="<call>"))
    for _ in range(2000):
        state.accept(120, b"x")
    assert len(state._free) < 300
    for byte in b"<call>":
        state.accept(byte, bytes([byte]))
    assert state.is_held


def test_a_guess_is_good_as_far_as_the_constraint_goes(constraints):
    state = constraints.start(regex("ab+c"))
    assert state.allowed_prefix(list(b"abbx")) == 3
    assert state.allowed_prefix(list(b"x")) == 0
    assert constraints.start(regex("a", trigger="!")).allowed_prefix([1, 2, 3]) == 3


def test_an_answer_that_went_astray_says_so(constraints):
    state = constraints.start(regex("ab"))
    with pytest.raises(EngineError, match="cannot go on"):
        state.accept(120, b"x")


VALUES = st.recursive(
    st.sampled_from(
        [
            {"type": "boolean"},
            {"type": "null"},
            {"enum": ["one", 2, None]},
            {"const": "fixed"},
            {"type": "string", "maxLength": 4},
            {"type": "integer", "minimum": -9, "maximum": 99},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 3}, inner),
        st.builds(
            lambda properties, more: {
                "type": "object",
                "properties": properties,
                "required": sorted(properties)[more:],
                "additionalProperties": False,
            },
            st.dictionaries(st.sampled_from(["a", "b", 'q"', "é"]), inner, max_size=3),
            st.integers(0, 1),
        ),
    ),
    max_leaves=6,
)


def fits(value, wanted):
    """Check a value against the few keywords that are drawn here."""
    if "enum" in wanted or "const" in wanted:
        return value in wanted.get("enum", [wanted.get("const")])
    if wanted["type"] == "array":
        return len(value) <= 3 and all(fits(each, wanted["items"]) for each in value)
    if wanted["type"] == "object":
        known = wanted["properties"]
        return set(wanted["required"]) <= set(value) <= set(known) and all(
            fits(each, known[name]) for name, each in value.items()
        )
    plain = {
        "boolean": lambda: isinstance(value, bool),
        "null": lambda: value is None,
        "string": lambda: isinstance(value, str) and len(value) <= 4,
        "integer": lambda: isinstance(value, int) and -9 <= value <= 99,
    }
    return plain[wanted["type"]]()


def answers(harness, constraints, wanted, sampling):
    """Run an answer for each (schema, prompt) side by side; return texts, checked."""
    running = [
        (
            value,
            harness.submit(
                (9, prompt),
                held=constraints.start(schema(value)),
                sampling=sampling,
                max_tokens=60,
                prediction_token_ids=list(b'{"a": [1, 2], "b": "fixed"}'),
            ),
        )
        for value, prompt in wanted
    ]
    harness.run()
    harness.check_seats()
    texts = []
    for value, generation in running:
        events = harness.events(generation)
        finished = harness.finished(events)
        texts.append(bytes(harness.tokens(events)))
        if finished.reason is FinishReason.STOP:
            assert fits(json.loads(texts[-1]), value)
        else:
            assert finished.reason is FinishReason.LENGTH
    return texts


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(VALUES, st.integers(0, 255)), min_size=1, max_size=5),
    st.sampled_from([GREEDY, SamplingParams(temperature=2.0, seed=3)]),
)
def test_answers_follow_their_schemas_whatever_else_runs(
    make_harness, constraints, wanted, sampling
):
    """With few cells answers are read again in the middle of what is forced; drafts alter none."""
    small = make_harness(n_slots=3, n_cells=90, n_batch=8, cache_bytes=2000)
    plain = answers(small, constraints, wanted, sampling)
    drafted = answers(make_harness(drafts=True), constraints, wanted, sampling)
    assert drafted == plain


def test_the_greedy_choice_is_the_best_that_may_come_and_a_mask_is_made_on_a_miss_only():
    rng = np.random.default_rng(5)
    for _ in range(50):
        logits = rng.normal(size=40).astype(np.float32)
        allowed = rng.choice(40, size=8, replace=False)
        told = Told(*allowed.tolist())
        chosen = Sampler(GREEDY, constraint=told).sample(logits)
        assert chosen == allowed[logits[allowed].argmax()]
        assert told.num_masks == (logits.argmax() != chosen)


def test_a_draft_is_cut_where_the_constraint_ends_it(make_harness, constraints):
    harness = make_harness(drafts=True)
    held = constraints.start(regex("[xy]{3}z[xy]{3}"))
    drafted = list(b"xxxxxxxxxxxxxxxx")
    generation = harness.submit((7,), held=held, prediction_token_ids=drafted)
    harness.run()
    assert said(harness, generation) == b"xxxzxxx"
    assert max(len(batch) for batch in harness.model.batches) <= 4


@pytest.mark.parametrize(
    "params",
    [
        {"top_k": 0, "top_p": 1.0, "min_p": 0.0},
        {"top_k": 4, "top_p": 1.0, "min_p": 0.0},
        {"top_k": 0, "top_p": 0.7, "min_p": 0.0},
        {"top_k": 0, "top_p": 1.0, "min_p": 0.2},
    ],
    ids=["whole", "top_k", "top_p", "min_p"],
)
def test_what_is_drawn_is_distributed_as_if_the_model_knew_nothing_else(params):
    """Chi-square against the same sampler on logits that were masked before: 1 in 10,000 fails."""
    logits = np.array([3.0, 2.6, 2.2, 1.8, 1.5, 1.2, 0.9, 0.6], np.float32)
    allowed, draws = [1, 3, 4, 6, 7], 4000
    masked = np.full_like(logits, -np.inf)
    masked[allowed] = logits[allowed]
    told = Told(*allowed)
    under = Sampler(SamplingParams(temperature=1.0, seed=11, **params), constraint=told)
    plain = Sampler(SamplingParams(temperature=1.0, seed=12, **params))
    counts = np.bincount([under.sample(logits) for _ in range(draws)], minlength=8)
    expected = np.bincount([plain.sample(masked) for _ in range(draws)], minlength=8)
    under.close()
    plain.close()
    assert not counts[[0, 2, 5]].any()
    assert ((counts > 0) == (expected > 0)).all()
    seen = expected > 0
    chi_square = ((counts - expected)[seen] ** 2 / (counts + expected)[seen]).sum()
    assert chi_square < 23.5  # 4 degrees of freedom
    looks_first = params == {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    assert (told.num_masks < draws) == looks_first


def test_a_constraint_outweighs_a_ban_on_all_that_may_come():
    banned = SamplingParams(temperature=0, logit_bias={3: float("-inf"), 4: float("-inf")})
    logits = np.arange(8, dtype=np.float32)
    assert Sampler(banned, constraint=Told(3, 4)).sample(logits) == 4


def test_penalties_count_what_was_forced(make_harness, constraints):
    harness = make_harness()
    sampling = SamplingParams(temperature=0, presence_penalty=2.0)
    held = constraints.start(regex("ab[abc]"))
    generation = harness.submit((7,), held=held, sampling=sampling)
    harness.run()
    assert said(harness, generation) == b"abc"
