"""Adapters on real weights: each request computes with its own, whoever runs beside it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serve.engine.config import AdapterConfig
from serve.engine.engine import Engine, EngineConfig
from serve.engine.errors import AdapterLoadError, UnknownAdapterError
from serve.engine.request import GenerationRequest, SamplingParams, TextDelta

pytestmark = pytest.mark.weights

TIE_GAP_NATS = 0.3  # batch shapes move logits by up to 0.24; a closer pair may swap
RANK, ALPHA = 4, 8.0
NUM_TOKENS = 16
TEXT = "def add(left, right):\n    "


@pytest.fixture(scope="module")
def files(smollm2_gguf, gguf, rewrite, write_lora, tmp_path_factory):
    """Return base, adapter and merged model; what the adapter changes is in 32 bits in both."""
    folder = tmp_path_factory.mktemp("adapters")
    random = np.random.default_rng(3)
    base, merged, deltas = {}, {}, {}
    for tensor in gguf.GGUFReader(smollm2_gguf).tensors:
        if not tensor.name.endswith(("attn_v.weight", "attn_output.weight")):
            continue
        weight = gguf.dequantize(tensor.data, tensor.tensor_type)
        a = random.normal(0, 0.2, (RANK, weight.shape[1])).astype(np.float32)
        b = random.normal(0, 0.02, (weight.shape[0], RANK)).astype(np.float32)
        base[tensor.name], deltas[tensor.name] = weight, (a, b)
        merged[tensor.name] = weight + ALPHA / RANK * (b @ a)
    return (
        rewrite(smollm2_gguf, folder / "base.gguf", weights=base),
        write_lora(folder / "adapter.gguf", deltas, alpha=ALPHA),
        rewrite(smollm2_gguf, folder / "merged.gguf", weights=merged),
    )


@pytest.fixture(scope="module")
def load(files):
    engines = []

    def load_(file, **fields):
        fields = {"context_length": 256, "slots": 4, "cache_demote_seconds": 0.0} | fields
        engines.append(Engine.load(EngineConfig(model=str(file), **fields)))
        return engines[-1]

    yield load_
    for engine in engines:
        engine.close()


@pytest.fixture(scope="module")
def engine(files, load):
    return load(files[0], adapters=(AdapterConfig(name="odd", file=str(files[1])),))


async def ask(engine, mix=(), text=TEXT, **fields):
    request = GenerationRequest(
        prompt_token_ids=engine.tokenize(text, add_special=True, parse_special=True),
        sampling=SamplingParams(temperature=0, logprobs=2),
        max_tokens=NUM_TOKENS,
        ignore_eos=True,
        adapters=mix,
        **fields,
    )
    return [event async for event in engine.submit(request)]


def chosen(events):
    return [each for event in events if isinstance(event, TextDelta) for each in event.logprobs]


def num_equal(left_events, right_events, gap):
    """Count the tokens before the first that differs; there the best two must be a near-tie."""
    pairs = list(zip(chosen(left_events), chosen(right_events), strict=True))
    for index, (left, right) in enumerate(pairs):
        if left.token_id != right.token_id:
            assert left.top[0].logprob - left.top[1].logprob < gap
            return index
    return len(pairs)


async def test_interleaved_requests_say_what_each_says_alone(engine):
    mixes = [(), ((0, 1.0),), ((0, 0.5),)]
    alone = [await ask(engine, mix, cache_scope="alone") for mix in mixes]
    texts = {tuple(each.token_id for each in chosen(events)) for events in alone}
    assert len(texts) == 3  # the adapter and its scale matter
    together = await asyncio.gather(*(ask(engine, mix) for mix in mixes * 2))
    for single, beside in zip(alone * 2, together, strict=True):
        assert num_equal(single, beside, TIE_GAP_NATS) > 0


async def test_an_adapter_says_what_the_merged_model_says(engine, files, load):
    merged = load(files[2])
    applied, whole = await ask(engine, ((0, 1.0),)), await ask(merged)
    assert num_equal(whole, applied, TIE_GAP_NATS) > NUM_TOKENS // 2
    for left, right in zip(chosen(whole)[:4], chosen(applied)[:4], strict=True):
        assert left.logprob == pytest.approx(right.logprob, abs=TIE_GAP_NATS)


async def test_what_was_read_with_an_adapter_serves_that_adapter_and_scale_alone(engine):
    text = "\n".join(f"value_{i} = {i}" for i in range(30))
    cached = [
        (await ask(engine, mix, text))[-1].num_cached_tokens
        for mix in ((), ((0, 1.0),), ((0, 0.5),), ((0, 1.0),), ((0, 0.0),))
    ]
    assert cached[:3] == [0, 0, 0]
    assert min(cached[3:]) > 30  # the same mix again, and a scale of 0 is the base model


async def test_an_adapter_that_is_not_there_is_refused(engine):
    with pytest.raises(UnknownAdapterError, match="there is no adapter 1; 0 to 0 are loaded"):
        await ask(engine, ((1, 1.0),))


def test_a_file_that_is_no_adapter_of_the_model_is_refused(files, load, smollm2_gguf, tmp_path):
    for file, words in ((smollm2_gguf, "adapter"), (tmp_path / "none.gguf", "no adapter file")):
        with pytest.raises(AdapterLoadError, match=words):
            load(smollm2_gguf, adapters=(AdapterConfig(name="odd", file=str(file)),))
