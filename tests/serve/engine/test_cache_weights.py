"""The tiers on real weights: what is restored decodes as what was read."""

from __future__ import annotations

import asyncio

import pytest

from serve.engine.engine import Engine, EngineConfig
from serve.engine.request import GenerationRequest, SamplingParams, TextDelta

pytestmark = pytest.mark.weights

TIE_GAP_NATS = 0.15  # batch shape moves logits by less; a closer pair of tokens may swap
NUM_TOKENS = 200
TEXT = "".join(f"def function_{i}(x):\n    return x + {i}\n\n" for i in range(60))
OTHER = "".join(f"class Kind{i}:\n    size = {i}\n\n" for i in range(60))


@pytest.fixture(scope="module")
def load(smollm2_gguf):
    engines = []

    def load_(**fields):
        fields = {"context_length": 512, "slots": 2, "cache_demote_seconds": 0.0} | fields
        engines.append(Engine.load(EngineConfig(model=str(smollm2_gguf), **fields)))
        return engines[-1]

    yield load_
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def engine(load):
    return load()


def prompt_of(engine, text, count=NUM_TOKENS):
    return engine.tokenize(text, add_special=True, parse_special=True)[:count]


async def ask(engine, prompt, **fields):
    sampling = SamplingParams(temperature=0, logprobs=2)
    request = GenerationRequest(prompt_token_ids=prompt, sampling=sampling, max_tokens=12, **fields)
    return [event async for event in engine.submit(request)]


async def until(condition):
    while not condition():  # noqa: ASYNC110  # the worker has no event for a state in between
        await asyncio.sleep(0.002)


def is_demoted(engine):
    return engine.stats().num_held_tokens == 0


def chosen(events):
    return [each for event in events if isinstance(event, TextDelta) for each in event.logprobs]


def assert_same_greedy(cold, restored):
    """Equal token by token, up to a near-tie that the shape of a batch may turn."""
    for left, right in zip(chosen(cold), chosen(restored), strict=True):
        if left.token_id != right.token_id:
            assert left.top[0].logprob - left.top[1].logprob < TIE_GAP_NATS
            return


async def test_restored_decoding_equals_cold_decoding_whole_and_cut(engine, load):
    cold = load(cache_memory_bytes=0)
    prompt = prompt_of(engine, TEXT)
    await ask(engine, prompt)
    await until(lambda: is_demoted(engine))
    assert engine.stats().cache_memory_bytes > NUM_TOKENS * 20_000
    shorter = prompt[:100] + prompt_of(engine, OTHER, 40)
    for asked, num_cached in ((prompt, NUM_TOKENS - 1), (shorter, 100)):
        restored = await ask(engine, asked)
        assert restored[-1].num_cached_tokens == num_cached
        assert_same_greedy(await ask(cold, asked), restored)
        await until(lambda: is_demoted(engine))
    assert engine.stats().cached_memory_tokens >= NUM_TOKENS - 1 + 100


async def test_prefixes_that_crowd_each_other_out_of_the_cells_are_not_read_again(load):
    engine = load(context_length=256, kv_cells=300, cache_demote_seconds=60.0)
    prompts = [prompt_of(engine, text) for text in (TEXT, OTHER, TEXT[::-1])]
    first = [await ask(engine, prompt) for prompt in prompts]
    again = [await ask(engine, prompt) for prompt in prompts]
    for cold, restored in zip(first, again, strict=True):
        assert restored[-1].num_cached_tokens == NUM_TOKENS - 1
        assert_same_greedy(cold, restored)
    assert engine.stats().evictions > 0


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
async def test_a_restart_finds_the_prefix_on_the_disk_unless_it_was_damaged(
    load, tmp_path, caplog, kv_type
):
    fields = {"cache_folder": str(tmp_path), "kv_type": kv_type}
    before = load(**fields)
    prompt = prompt_of(before, TEXT)
    cold = await ask(before, prompt)
    before.close()
    after = load(**fields)
    restored = await ask(after, prompt)
    after.close()
    assert restored[-1].num_cached_tokens == after.stats().cached_disk_tokens == NUM_TOKENS - 1
    assert_same_greedy(cold, restored)
    damage(tmp_path)
    read = await ask(load(**fields), prompt)
    assert read[-1].num_cached_tokens == 0
    assert "damaged" in caplog.text
    assert_same_greedy(cold, read)


def damage(folder):
    (path,) = folder.glob("*/*.state")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def test_a_scope_does_not_profit_from_another_and_purging_leaves_nothing(engine):
    prompt = prompt_of(engine, OTHER)
    for scope, num_cached in (("anna", 0), ("bert", 0), ("anna", NUM_TOKENS - 1)):
        events = await ask(engine, prompt, cache_scope=scope)
        assert events[-1].num_cached_tokens == num_cached
        await until(lambda: is_demoted(engine))
    engine.purge_cache()
    await until(lambda: engine.stats().cache_memory_bytes == 0)
    assert (await ask(engine, prompt, cache_scope="anna"))[-1].num_cached_tokens == 0
