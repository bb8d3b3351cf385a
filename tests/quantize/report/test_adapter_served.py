"""A run's own adapter beside the base, in the server's engine, says what the merged file says."""

import pytest

from quantize.convert.lora_gguf import convert_adapter
from serve.engine.config import AdapterConfig
from serve.engine.engine import Engine, EngineConfig
from serve.engine.request import GenerationRequest, SamplingParams

NUM_TOKENS = 24
TIE_GAP_NATS = 0.02  # merged weights are rounded to 16 bits, an adapter's product is not
PROMPTS = ["def add(left, right):\n", "The sum of a list is", "import os\n\n\nclass Folder:"]


@pytest.fixture(scope="module")
def load():
    engines = []

    def load_(file, **fields):
        config = EngineConfig(
            model=str(file), context_length=128, slots=1, cache_memory_bytes=0, **fields
        )
        engines.append(Engine.load(config))
        return engines[-1]

    yield load_
    for engine in engines:
        engine.close()


async def greedy(engine, prompt, mix=()):
    """Return the chosen tokens, each with how far the second best was behind, in nats."""
    request = GenerationRequest(
        prompt_token_ids=engine.tokenize(prompt, add_special=True, parse_special=True),
        sampling=SamplingParams(temperature=0, logprobs=2),
        max_tokens=NUM_TOKENS,
        ignore_eos=True,
        adapters=mix,
    )
    events = [event async for event in engine.submit(request)]
    marks = [mark for event in events[:-1] for mark in event.logprobs]
    return [(mark.token_id, mark.top[0].logprob - mark.top[1].logprob) for mark in marks]


@pytest.fixture(scope="module")
def beside(base_gguf, tiny_model, tiny_run, tmp_path_factory, load):
    """Load the base with the run's adapter."""
    folder = tmp_path_factory.mktemp("adapter")
    lora = folder / "lora.gguf"
    convert_adapter(tiny_run / "adapter", tiny_model, lora, log=folder / "log")
    return load(base_gguf, adapters=(AdapterConfig(name="mine", file=str(lora)),))


async def test_the_adapter_of_a_run_served_beside_the_base_says_what_the_merged_file_says(
    beside, tiny_merged, load
):
    merged = load(tiny_merged / "f16.gguf")
    num_compared, differs_from_base = 0, False
    for prompt in PROMPTS:
        ours, theirs = await greedy(beside, prompt, ((0, 1.0),)), await greedy(merged, prompt)
        assert len(ours) == len(theirs) == NUM_TOKENS
        for (left, _), (right, gap) in zip(ours, theirs, strict=True):
            if left != right:
                assert gap < TIE_GAP_NATS
                break
            num_compared += 1
        plain = await greedy(beside, prompt)
        differs_from_base |= [token for token, _ in plain] != [token for token, _ in ours]
    assert num_compared > len(PROMPTS) * NUM_TOKENS / 2
    assert differs_from_base
