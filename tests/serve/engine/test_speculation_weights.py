"""Drafts on real weights: greedy text is what plain decoding says, up to a shown near-tie."""

from __future__ import annotations

import pytest

from serve.engine.decode_times import DecodeTimes
from serve.engine.engine import Engine, EngineConfig
from serve.engine.request import GenerationRequest, SamplingParams, TextDelta

pytestmark = pytest.mark.weights

TIE_GAP_NATS = 0.3  # batch shapes move logits by up to 0.24; a closer pair of tokens may swap
NUM_TOKENS = 48

PROMPTS = (
    "def add(left, right):\n    return left + right\n\ndef subtract(left, right):\n",
    "The first ten even numbers, one a line:\n2\n4\n6\n",
    "class Point:\n    def __init__(self, x, y):\n        self.x = x\n        self.y = y\n\n",
)


class FreeRows(DecodeTimes):
    """Every call takes the same, so that what is drafted does not depend on how busy this is."""

    def observe(self, num_rows, seconds):
        pass

    def estimate(self, num_rows):
        return 1.0


@pytest.fixture(scope="module")
def engine(smollm2_gguf):
    config = EngineConfig(model=str(smollm2_gguf), context_length=512, slots=4, n_batch=128)
    engine = Engine.load(config)
    engine._worker._speculation.times = FreeRows()
    yield engine
    engine.close()


async def say(engine, prompt_token_ids, **fields):
    """Return the logprobs, token by token, and the end."""
    request = GenerationRequest(
        prompt_token_ids=prompt_token_ids,
        sampling=SamplingParams(temperature=0, logprobs=2),
        max_tokens=NUM_TOKENS,
        ignore_eos=True,
        **fields,
    )
    *events, finished = [event async for event in engine.submit(request)]
    assert all(isinstance(event, TextDelta) for event in events)
    return [logprob for event in events for logprob in event.logprobs], finished


def num_same(plain, drafted):
    """Count equal tokens; where they part, two were as good as each other."""
    for number, (left, right) in enumerate(zip(plain, drafted, strict=True)):
        if left.token_id != right.token_id:
            gap = left.top[0].logprob - left.top[1].logprob
            assert gap < TIE_GAP_NATS, f"token {number} differs at a gap of {gap:.3f} nats"
            return number
    return len(plain)


@pytest.mark.parametrize("prompt", PROMPTS)
async def test_drafted_greedy_text_is_the_plain_one(engine, prompt):
    prompt_token_ids = engine.tokenize(prompt, add_special=True, parse_special=True)
    plain, finished = await say(engine, prompt_token_ids, drafts=False)
    assert finished.num_draft_tokens == 0
    answer = [each.token_id for each in plain]
    edited = [*answer[:15], *answer[18:30], 42, *answer[30:45], 43, *answer[46:], 44]
    drafted, finished = await say(engine, prompt_token_ids, prediction_token_ids=edited)
    assert finished.num_accepted_tokens >= num_same(plain, drafted) // 2
    assert finished.num_predicted_tokens + finished.num_unpredicted_tokens >= len(edited)
