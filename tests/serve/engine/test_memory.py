"""The context that fits is chosen; one that does not is refused with the numbers."""

from __future__ import annotations

import pytest

from serve.engine.config import EngineConfig
from serve.engine.errors import ContextTooLargeError
from serve.engine.memory import RESERVE_BYTES, KvShape, plan_context

MODEL_BYTES = 10**9
SHAPE = KvShape(
    n_layer=28,
    n_head_kv=2,
    key_length=128,
    value_length=128,
    n_ctx_train=32_768,
    model_bytes=MODEL_BYTES,
)
CELL = 28 * 2 * 256 * 2


def free_for(num_cells):
    return MODEL_BYTES + RESERVE_BYTES + num_cells * CELL


def plan(free_bytes, slots=4, **config):
    return plan_context(EngineConfig(model="m.gguf", **config), SHAPE, slots, free_bytes)


def test_a_cell_costs_keys_and_values_of_every_layer():
    assert SHAPE.cell_bytes("f16") == CELL == 28_672
    assert SHAPE.cell_bytes("q8_0") == round(CELL * 34 / 64)
    assert SHAPE.cell_bytes("q4_0") == round(CELL * 18 / 64)


def test_with_memory_to_spare_every_slot_has_a_full_context_of_the_default_length():
    chosen = plan(free_for(10**6))
    assert (chosen.context_length, chosen.n_cells) == (8192, 4 * 8192)
    assert chosen.kv_bytes == chosen.n_cells * CELL


@pytest.mark.parametrize(("slots", "contexts"), [(2, 2), (4, 4), (8, 4), (16, 8)])
def test_half_of_many_slots_get_a_full_context_where_memory_is_plenty(slots, contexts):
    planned = plan(10**12, slots=slots)
    assert planned.n_cells == contexts * planned.context_length


def test_the_pool_takes_a_quarter_of_scarce_memory_and_at_least_one_context():
    assert plan(free_for(80_000)).n_cells == 20_000
    assert plan(free_for(10_000)).n_cells == 8192


def test_the_default_length_shrinks_to_what_fits():
    assert plan(free_for(3000)).context_length == 3000


def test_the_trained_length_bounds_the_default():
    shape = KvShape(
        n_layer=1, n_head_kv=1, key_length=8, value_length=8, n_ctx_train=2048, model_bytes=0
    )
    assert plan_context(EngineConfig(model="m"), shape, 4, None).context_length == 2048


def test_a_context_beyond_training_is_refused_with_both_numbers():
    with pytest.raises(ContextTooLargeError, match=r"40000 .* 32768"):
        plan(free_for(10**6), context_length=40_000)


def test_a_context_beyond_memory_is_refused_with_need_have_and_remedy():
    with pytest.raises(ContextTooLargeError) as refused:
        plan(free_for(10_000), context_length=30_000)
    message = str(refused.value)
    for part in ("context 30000", "0.9 GB of KV cache", "model 1.0 GB", "1.6 GB are available"):
        assert part in message
    assert "at most 10000 tokens fit" in message
    assert "q8_0" in message


def test_no_memory_for_anything_is_refused():
    with pytest.raises(ContextTooLargeError, match="at most 0 tokens"):
        plan(1000)


def test_unknown_memory_is_not_checked():
    assert plan(None, context_length=32_768).n_cells == 4 * 32_768


def test_a_pool_smaller_than_one_context_is_refused():
    with pytest.raises(ContextTooLargeError, match="kv_cells is 100"):
        plan(None, kv_cells=100)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"slots": 0}, "slots is 0"),
        ({"slots": 300}, "256 sequences"),
        ({"n_batch": 8}, "n_batch is 8"),
        ({"kv_type": "q8_0", "flash_attention": False}, "needs flash_attention"),
        ({"queue_limit": -1}, "negative"),
        ({"aging_seconds": 0}, "aging_seconds"),
        ({"cache_memory_bytes": -1}, "cache_memory_bytes is -1"),
        ({"cache_folder": "c", "cache_memory_bytes": 0}, "leave cache_folder out"),
    ],
)
def test_a_configuration_that_cannot_work_says_so(fields, words):
    with pytest.raises(ValueError, match=words):
        EngineConfig(model="m.gguf", **fields)
