"""The engine on real weights: answers, sharing, cancelling, refusing, closing."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.engine import native
from serve.engine.engine import Engine, EngineConfig
from serve.engine.errors import (
    ContextTooLargeError,
    EngineClosedError,
    InvalidSamplingError,
    ModelLoadError,
    PromptTooLongError,
    QueueFullError,
)
from serve.engine.request import (
    Finished,
    FinishReason,
    GenerationRequest,
    Priority,
    SamplingParams,
    TextDelta,
)

pytestmark = pytest.mark.weights

TIE_GAP_NATS = 0.15  # batch shape moves logits by less; a closer pair of tokens may swap

PROMPTS = (
    "def fibonacci(n):\n",
    "import os\n\ndef list_files(path):\n    ",
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self",
    "The capital of France is",
    "# Sort a list of numbers\nnumbers = [3, 1, 2]\n",
    "SELECT name FROM users WHERE",
)
LONG_TEXT = "".join(f"def function_{i}(x):\n    return x + {i}\n\n" for i in range(60))


@pytest.fixture(scope="module")
def engine(smollm2_gguf):
    config = EngineConfig(
        model=str(smollm2_gguf), context_length=1024, slots=6, n_batch=128, queue_limit=4
    )
    engine = Engine.load(config)
    yield engine
    engine.close()


def ask(engine, prompt, **fields):
    token_ids = (
        engine.tokenize(prompt, add_special=True, parse_special=True)
        if isinstance(prompt, str)
        else prompt
    )
    fields.setdefault("max_tokens", 16)
    fields.setdefault("sampling", SamplingParams(temperature=0, logprobs=2))
    return engine.submit(GenerationRequest(prompt_token_ids=token_ids, **fields))


async def read(generation):
    return [event async for event in generation]


def logprobs(events):
    return [lp for event in events if isinstance(event, TextDelta) for lp in event.logprobs]


def token_ids(events):
    return [i for event in events if isinstance(event, TextDelta) for i in event.token_ids]


def text(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def assert_same_greedy(alone, other):
    """Equal token by token, up to a near-tie that the shape of a batch may turn."""
    for left, right in zip(logprobs(alone), logprobs(other), strict=False):
        if left.token_id != right.token_id:
            gap = left.top[0].logprob - left.top[1].logprob
            assert gap < TIE_GAP_NATS
            return
    assert token_ids(alone) == token_ids(other)


async def until(condition):
    while not condition():  # noqa: ASYNC110  # the worker has no event for a state in between
        await asyncio.sleep(0.002)


def is_idle(engine):
    stats = engine.stats()
    return not stats.num_running and not stats.num_waiting


async def test_sequences_in_one_batch_say_what_each_says_alone(engine):
    alone = [await read(ask(engine, prompt)) for prompt in PROMPTS]
    before = engine.stats()
    together = await asyncio.gather(*[read(ask(engine, prompt)) for prompt in PROMPTS])
    after = engine.stats()
    for left, right in zip(alone, together, strict=True):
        assert_same_greedy(left, right)
    rows = after.decode_rows - before.decode_rows
    assert rows > 2 * (after.decode_batches - before.decode_batches)


async def test_a_known_prefix_is_not_read_again_and_changes_nothing(engine):
    prompt = engine.tokenize(LONG_TEXT, add_special=True, parse_special=True)[:300]
    first = await read(ask(engine, prompt))
    second = await read(ask(engine, prompt))
    assert first[-1].num_cached_tokens < 10
    assert second[-1].num_cached_tokens == 299
    assert_same_greedy(first, second)


async def test_a_prefix_of_a_running_sequence_is_shared(engine):
    prompt = engine.tokenize("x = 1\n" * 60, add_special=True, parse_special=True)
    alone = await read(ask(engine, prompt[:100]))
    running = ask(engine, prompt, max_tokens=60, ignore_eos=True)
    await anext(running)
    sharing = await read(ask(engine, prompt[:100]))
    running.cancel()
    assert sharing[-1].num_cached_tokens == 99
    assert_same_greedy(alone, sharing)


async def test_text_is_the_tokens_decoded(engine):
    events = await read(ask(engine, PROMPTS[1], max_tokens=24))
    assert text(events) == engine.detokenize(token_ids(events), special=False)


async def test_the_same_seed_gives_the_same_text_and_another_seed_another(engine):
    await until(lambda: is_idle(engine))
    engine.purge_cache()  # cells that get free in between would change the order of summation
    await until(lambda: engine.stats().num_held_tokens == 0)
    await read(ask(engine, PROMPTS[0]))  # so that each of the three finds the prompt read
    hot = {"temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    texts = [
        text(await read(ask(engine, PROMPTS[0], sampling=SamplingParams(seed=seed, **hot))))
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


async def test_a_stop_string_across_tokens_ends_the_answer_before_it(engine):
    whole = text(await read(ask(engine, PROMPTS[0], max_tokens=24)))
    stop = whole[9:14]
    events = await read(ask(engine, PROMPTS[0], max_tokens=24, stop=(stop,)))
    assert text(events) == whole[: whole.index(stop)]
    assert (events[-1].reason, events[-1].stop_text) == (FinishReason.STOP, stop)


async def test_an_end_token_ends_the_answer_unless_it_is_ignored(engine):
    end = engine.model_info.eos_token_id
    force = SamplingParams(temperature=0, logit_bias={end: 100.0})
    ended = await read(ask(engine, PROMPTS[0], sampling=force))
    assert (ended[-1].reason, text(ended)) == (FinishReason.STOP, "")
    assert ended[-1].num_completion_tokens == 1
    ignored = await read(ask(engine, PROMPTS[0], sampling=force, ignore_eos=True, max_tokens=5))
    assert ignored[-1].reason is FinishReason.LENGTH
    assert ignored[-1].num_completion_tokens == 5


async def test_the_context_ends_an_answer_by_length(engine):
    prompt = engine.tokenize(LONG_TEXT, add_special=True, parse_special=True)[:1015]
    finished = (await read(ask(engine, prompt, max_tokens=None, ignore_eos=True)))[-1]
    assert finished.reason is FinishReason.LENGTH
    assert finished.num_prompt_tokens + finished.num_completion_tokens == 1024


async def test_fim_overtakes_a_long_prefill(engine):
    prompt = engine.tokenize(LONG_TEXT[::-1], add_special=True, parse_special=True)[:1000]
    order = []

    async def note(name, generation):
        async for event in generation:
            order.append((name, type(event)))  # noqa: PERF401  # as they arrive

    long = ask(engine, prompt, max_tokens=1)
    await until(lambda: long.status != "queued")
    fim = ask(engine, "a = b", max_tokens=4, priority=Priority.FIM)
    await asyncio.gather(note("long", long), note("fim", fim))
    assert order.index(("fim", Finished)) < order.index(("long", TextDelta))


async def test_cancelling_during_the_prefill_frees_the_seat_and_keeps_what_was_read(engine):
    prompt = engine.tokenize(LONG_TEXT.upper(), add_special=True, parse_special=True)[:900]
    generation = ask(engine, prompt)
    await until(lambda: generation.sequence.num_computed > 0)
    generation.cancel()
    events = await read(generation)
    assert [event.reason for event in events] == [FinishReason.CANCELLED]
    assert engine.stats().num_running == 0
    again = await read(ask(engine, prompt[:200], max_tokens=1))
    assert again[-1].num_cached_tokens > 0


async def test_no_text_comes_after_cancel(engine):
    generation = ask(engine, PROMPTS[0], max_tokens=200, ignore_eos=True)
    await anext(generation)
    generation.cancel()
    assert [type(event) for event in await read(generation)] == [Finished]


async def test_many_requests_that_are_dropped_leave_every_seat_free(engine):
    for cycle in range(120):
        generation = ask(engine, PROMPTS[cycle % 6], max_tokens=100, ignore_eos=True)
        if cycle % 3:
            await anext(generation)
        generation.cancel()
        if cycle % 5 == 0:
            await read(generation)
    await until(lambda: is_idle(engine))
    stats = engine.stats()
    assert {slot.state for slot in stats.slots} == {"idle"}
    assert text(await read(ask(engine, PROMPTS[0])))


async def test_a_full_queue_refuses_and_says_when_to_come_back(engine):
    generations = [ask(engine, PROMPTS[0], max_tokens=50) for _ in range(7 + 4)]
    with pytest.raises(QueueFullError, match="the queue holds 4") as refused:
        ask(engine, PROMPTS[0])
    assert refused.value.retry_after_seconds >= 1
    for generation in generations:
        generation.cancel()
        await read(generation)
    await read(ask(engine, PROMPTS[0], max_tokens=1))


async def test_what_cannot_be_served_is_refused_at_once(engine):
    with pytest.raises(PromptTooLongError) as refused:
        ask(engine, [5] * 1024)
    assert (refused.value.num_prompt_tokens, refused.value.context_length) == (1024, 1024)
    for prompt in ([5, 49_152], [-1]):
        with pytest.raises(InvalidSamplingError, match="vocabulary has 49152"):
            ask(engine, prompt)
    with pytest.raises(InvalidSamplingError, match="top_p"):
        ask(engine, PROMPTS[0], sampling=SamplingParams(top_p=2))
    with pytest.raises(InvalidSamplingError, match="max_tokens"):
        ask(engine, PROMPTS[0], max_tokens=-1)


async def test_an_empty_prompt_begins_a_text(engine):
    assert (await read(ask(engine, [])))[-1].num_prompt_tokens == 1


def test_tokenizing_is_exact_and_safe_from_many_threads(engine):
    texts = [f"{prompt} ünïcödé 🙂 {i}" for i, prompt in enumerate(PROMPTS * 20)]

    def there_and_back(text):
        return engine.detokenize(engine.tokenize(text, add_special=False, parse_special=False))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(there_and_back, texts)) == texts


def test_special_tokens_are_parsed_only_when_asked_for(engine):
    start = engine.model_info.bos_token
    parsed = engine.tokenize(start, add_special=False, parse_special=True)
    assert parsed == [engine.model_info.bos_token_id]
    assert len(engine.tokenize(start, add_special=False, parse_special=False)) > 1
    assert engine.detokenize(parsed) == start
    assert engine.detokenize(parsed, special=False) == ""
    assert engine.token_bytes(parsed[0]) == start.encode()


def test_the_model_says_what_it_is(engine):
    info = engine.model_info
    assert (info.architecture, info.n_vocab, info.n_ctx_train) == ("llama", 49_152, 8192)
    assert (info.context_length, info.n_slots, info.n_cells) == (1024, 7, 4 * 1024)
    assert "<|im_start|>" in info.chat_template
    assert info.eos_token_id in info.eog_token_ids
    assert info.metadata["general.architecture"] == "llama"
    assert info.size_bytes > 90_000_000


async def test_closing_during_an_answer_ends_it_and_refuses_more(smollm2_gguf):
    engine = Engine.load(EngineConfig(model=str(smollm2_gguf), context_length=512, slots=2))
    generations = [ask(engine, prompt, max_tokens=400) for prompt in PROMPTS[:3]]
    await anext(generations[0])
    engine.close()
    engine.close()
    for generation in generations:
        assert (await read(generation))[-1].reason is FinishReason.ERROR
    with pytest.raises(EngineClosedError):
        engine.submit(GenerationRequest(prompt_token_ids=[1]))
    with pytest.raises(EngineClosedError):
        engine.tokenize("x", add_special=False, parse_special=False)


async def test_sequences_that_outgrow_the_pool_are_read_again_and_not_cut_short(smollm2_gguf):
    config = EngineConfig(
        model=str(smollm2_gguf), context_length=256, kv_cells=256, slots=2, n_batch=64
    )
    engine = Engine.load(config)
    try:
        token_ids_ = engine.tokenize(LONG_TEXT, add_special=True, parse_special=True)
        prompts = [token_ids_[start : start + 60] for start in (0, 200)]
        fields = {"max_tokens": 80, "ignore_eos": True}
        alone = [await read(ask(engine, prompt, **fields)) for prompt in prompts]
        together = await asyncio.gather(*[read(ask(engine, p, **fields)) for p in prompts])
        assert 1 <= engine.stats().preemptions <= 2
        for left, right in zip(alone, together, strict=True):
            assert right[-1].num_completion_tokens == 80
            assert_same_greedy(left, right)
    finally:
        engine.close()


@pytest.mark.parametrize("kv_type", ["q8_0", "q4_0"])
async def test_a_smaller_kv_cache_still_answers(smollm2_gguf, kv_type):
    config = EngineConfig(model=str(smollm2_gguf), context_length=512, slots=1, kv_type=kv_type)
    engine = Engine.load(config)
    try:
        assert text(await read(ask(engine, PROMPTS[0])))
    finally:
        engine.close()


def test_files_that_are_no_models_are_refused_by_name(smollm2_gguf, tmp_path):
    missing = tmp_path / "missing.gguf"
    words = tmp_path / "words.gguf"
    words.write_text("these are words")
    short = tmp_path / "short.gguf"
    with smollm2_gguf.open("rb") as file:
        short.write_bytes(file.read(3_000_000))
    for path, reason in ((missing, "No such file"), (words, "not a GGUF"), (short, "cut short")):
        with pytest.raises(ModelLoadError, match=reason) as refused:
            Engine.load(EngineConfig(model=str(path)))
        assert str(path) in str(refused.value)
    words.write_bytes(smollm2_gguf.read_bytes().replace(b"llama", b"lhama", 1))
    other_listener = native.library().llama_log_callback(lambda *_: None)
    native.library().llama_log_set(other_listener, None)
    with pytest.raises(ModelLoadError, match="unknown model architecture"):
        Engine.load(EngineConfig(model=str(words)))
    with pytest.raises(ModelLoadError, match="Is a directory"):
        Engine.load(EngineConfig(model=str(tmp_path)))


def test_a_context_beyond_the_model_is_refused(smollm2_gguf):
    with pytest.raises(ContextTooLargeError, match="8192"):
        Engine.load(EngineConfig(model=str(smollm2_gguf), context_length=9000))
