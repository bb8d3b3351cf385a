"""Stored prefixes: the longest match, exact bytes, worth, scopes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.engine.prefix import HALF_LIFE_SECONDS, Tier
from serve.engine.prefix_cache import MIN_TOKENS, PrefixCache

FAR = 10_000
TEXT = list(range(1000, 1200))
OTHER = list(range(2000, 2200))


def put(cache, token_ids, *, scope="", now=0.0, num_bytes=None):
    count = len(token_ids) if num_bytes is None else num_bytes
    cache.put(list(token_ids), scope, np.zeros(count, np.uint8), now)


def num_matched(cache, token_ids, scope=""):
    match = cache.match(list(token_ids), scope, FAR)
    return match.num_tokens if match else 0


def test_the_longest_shared_beginning_wins():
    cache = PrefixCache(1000)
    put(cache, TEXT[:60])
    put(cache, [*TEXT[:100], *OTHER[:100]])
    match = cache.match(TEXT, "", FAR)
    assert (match.num_tokens, match.tier) == (100, Tier.MEMORY)
    assert len(match.source.token_ids) == 200


def test_the_last_token_of_a_prompt_is_left_to_be_read():
    cache = PrefixCache(1000)
    put(cache, TEXT)
    assert num_matched(cache, TEXT) == len(TEXT) - 1


def test_what_is_read_as_fast_as_it_is_managed_is_not_stored():
    cache = PrefixCache(1000)
    put(cache, TEXT[: MIN_TOKENS - 1])
    assert not cache.prefixes
    put(cache, TEXT)
    assert num_matched(cache, [*TEXT[: MIN_TOKENS - 1], 7, 7]) == 0


def test_another_scope_sees_nothing():
    cache = PrefixCache(1000)
    put(cache, TEXT, scope="anna")
    assert num_matched(cache, TEXT, "anna") > 0
    assert num_matched(cache, TEXT, "bert") == num_matched(cache, TEXT) == 0
    assert not cache.touch(TEXT, "bert", 0.0)


def test_a_state_longer_than_the_free_cells_is_not_offered():
    cache = PrefixCache(1000)
    put(cache, TEXT)
    assert cache.match(TEXT, "", len(TEXT) - 1) is None


def test_the_old_and_short_go_before_the_new_and_long():
    cache = PrefixCache(300)
    put(cache, TEXT[:100], now=0.0)
    put(cache, OTHER, now=0.0)
    put(cache, range(50, 150), now=1.0)
    assert [len(each.token_ids) for each in cache.prefixes] == [200, 100]
    later = 3 * HALF_LIFE_SECONDS
    cache.touch(list(range(50, 150)), "", later)
    put(cache, range(300, 350), now=later)
    assert [each.token_ids[0] for each in cache.prefixes] == [50, 300]
    assert (cache.evictions, cache.num_bytes) == (2, 150)


def test_a_pinned_prefix_stays_whatever_it_is_worth():
    cache = PrefixCache(250)
    put(cache, TEXT[:150])
    cache.prefixes[0].is_pinned = True
    put(cache, OTHER[:50], now=FAR)
    put(cache, OTHER[50:150], now=FAR)
    assert [len(each.token_ids) for each in cache.prefixes] == [150, 100]
    put(cache, OTHER[30:180], now=FAR)
    assert [len(each.token_ids) for each in cache.prefixes] == [150, 100]
    cache.prefixes[0].is_pinned = False
    put(cache, OTHER[30:180], now=FAR)
    assert [len(each.token_ids) for each in cache.prefixes] == [100, 150]


def test_a_prefix_larger_than_everything_is_refused_and_costs_nobody_its_place():
    cache = PrefixCache(100)
    put(cache, TEXT[:50])
    put(cache, OTHER)
    assert [len(each.token_ids) for each in cache.prefixes] == [50]


def test_the_next_state_of_a_text_takes_the_place_of_the_last():
    cache = PrefixCache(1000)
    put(cache, TEXT[:190])
    put(cache, TEXT)
    assert [len(each.token_ids) for each in cache.prefixes] == [200]
    assert cache.touch(TEXT[:100], "", 5.0)
    assert (cache.prefixes[0].used_at, cache.evictions) == (5.0, 0)


def test_memory_that_cannot_be_cut_gets_whole_prefixes_and_keeps_each():
    cache = PrefixCache(1000, can_trim=False)
    put(cache, TEXT[:100])
    put(cache, TEXT[:150])
    assert len(cache.prefixes) == 2
    assert num_matched(cache, [*TEXT[:140], 7]) == 100
    assert num_matched(cache, TEXT) == 150
    assert num_matched(cache, TEXT[:100]) == 0
    assert not cache.touch(TEXT[:90], "", 0.0)


def test_purging_forgets_everything():
    cache = PrefixCache(1000)
    put(cache, TEXT)
    cache.purge()
    assert (cache.prefixes, cache.num_bytes) == ([], 0)


puts = st.tuples(
    st.sampled_from([TEXT, OTHER, TEXT[:50] + OTHER]),
    st.integers(0, 200),
    st.sampled_from(["", "a"]),
    st.integers(0, 400),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(puts, max_size=30), st.sampled_from([0, 100, 500, 1500]), st.booleans())
def test_the_books_balance_whatever_comes(script, capacity, can_trim):
    cache = PrefixCache(capacity, can_trim=can_trim)
    for now, (text, count, scope, num_bytes, is_pinned) in enumerate(script):
        if not cache.touch(text[:count], scope, now):
            put(cache, text[:count], scope=scope, now=now, num_bytes=num_bytes)
        if cache.prefixes:
            cache.prefixes[now % len(cache.prefixes)].is_pinned = is_pinned
        assert cache.what_is_wrong() is None
        match = cache.match(text, scope, FAR)
        if match is not None:
            assert match.source.scope == scope
            assert match.source.token_ids[: match.num_tokens] == text[: match.num_tokens]


@pytest.mark.parametrize("capacity", [0, 31])
def test_without_room_nothing_is_kept(capacity):
    cache = PrefixCache(capacity)
    put(cache, TEXT)
    assert (cache.is_on, cache.prefixes) == (capacity > 0, [])
