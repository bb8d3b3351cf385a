"""Answers that begin with half a word: which tokens may come, and what comes out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serve.engine.healing import Healing, Spellings

TEXTS = [b"", b" a", b" ar", b" arg", b" args", b"g", b"_", b"_s", b"s", b"(", b"(self", b" ", b"a"]


def spellings(texts=TEXTS):
    return Spellings(texts.__getitem__, len(texts))


def begin(rest):
    return sorted(TEXTS[token_id] for token_id in spellings().beginning(rest))


def test_tokens_that_spell_the_whole_beginning_may_come():
    assert begin(b" ar") == [b" ar", b" arg", b" args"]
    assert begin(b"(") == [b"(", b"(self"]


def test_where_none_spells_all_of_it_the_longest_parts_may():
    assert begin(b" argx") == [b" a", b" ar", b" arg"]


def test_control_tokens_spell_nothing():
    assert b"" not in begin(b" ")


def test_only_tokens_that_spell_the_beginning_keep_their_logits():
    logits = np.arange(len(TEXTS), dtype=np.float32)
    masked = Healing(spellings(), " ar").masked(logits)
    kept = [TEXTS[i] for i in np.flatnonzero(masked > -np.inf)]
    assert kept == [b" ar", b" arg", b" args"]
    assert masked[3] == logits[3]
    assert logits[0] == 0


def test_what_goes_beyond_the_beginning_comes_out():
    healing = Healing(spellings(), " argx")
    assert healing.take(b" ar") == b""
    assert not healing.is_over
    assert healing.take(b"gxyz") == b"yz"
    assert healing.is_over
    assert healing.take(b"more") == b"more"


def test_a_vocabulary_that_cannot_spell_it_is_left_alone():
    logits = np.zeros(1, dtype=np.float32)
    healing = Healing(spellings([b"x"]), "y")
    assert healing.masked(logits) is logits
    assert healing.is_over


@given(
    texts=st.lists(st.binary(max_size=4), max_size=30),
    rest=st.binary(min_size=1, max_size=5).filter(lambda data: 0xFF not in data),
)
def test_every_token_offered_agrees_with_the_beginning(texts, rest):
    texts = [text.replace(b"\xff", b"") for text in texts]
    offered = [texts[token_id] for token_id in spellings(texts).beginning(rest)]
    longer = [text for text in texts if text.startswith(rest)]
    if longer:
        assert sorted(offered) == sorted(longer)
    for text in offered:
        assert text
        assert text.startswith(rest) or rest.startswith(text)
