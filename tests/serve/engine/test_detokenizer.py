"""Text comes out whole, early and without stop strings, wherever tokens split it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from serve.engine.detokenizer import TextStream


def split(data, cuts):
    """Cut bytes at the given places, which may lie inside a character."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def feed(stream, pieces):
    return [stream.push(piece) for piece in pieces] + [stream.flush()]


cut_lists = st.lists(st.integers(0, 1000), max_size=30)
narrow_text = st.text(alphabet="abcé€😀", max_size=40)
stop_strings = st.lists(st.text(alphabet="abcé€", min_size=1, max_size=5), max_size=4)


@given(st.text(), cut_lists)
def test_the_pieces_together_are_the_whole_text(text, cuts):
    assert "".join(feed(TextStream(), split(text.encode(), cuts))) == text


@given(st.binary(max_size=60), cut_lists)
def test_broken_bytes_come_out_as_a_decoder_would_replace_them(data, cuts):
    pieces = feed(TextStream(), split(data, cuts))
    assert "".join(pieces) == data.decode("utf-8", "replace")


@given(narrow_text, stop_strings, cut_lists)
def test_a_stop_string_ends_the_text_the_same_way_at_any_split(text, stop, cuts):
    whole, cut = TextStream(stop), TextStream(stop)
    expected = "".join(feed(whole, [text.encode()]))
    assert "".join(feed(cut, split(text.encode(), cuts))) == expected
    assert cut.stop_text == whole.stop_text


@given(narrow_text, stop_strings)
def test_the_stop_string_that_is_complete_first_counts(text, stop):
    stream = TextStream(stop)
    out = "".join(feed(stream, [text.encode()]))
    ends = [text.index(s) + len(s) for s in stop if s in text]
    if not ends:
        assert (out, stream.stop_text) == (text, None)
    else:
        assert len(out) + len(stream.stop_text) == min(ends)
        assert text.startswith(out + stream.stop_text)


@given(narrow_text, stop_strings)
def test_only_a_possible_beginning_of_a_stop_string_is_held_back(text, stop):
    stream, out = TextStream(stop), ""
    for index, character in enumerate(text):
        out += stream.push(character.encode())
        if stream.stop_text is not None:
            return
        held = text[len(out) : index + 1]
        assert not held or any(s.startswith(held) for s in stop)


def test_half_a_character_is_held_until_it_is_whole():
    stream = TextStream()
    assert [stream.push(bytes([byte])) for byte in "€".encode()] == ["", "", "€"]


def test_nothing_comes_after_a_stop_string():
    stream = TextStream(["END"])
    assert feed(stream, [b"one EN", b"D two", b" three"]) == ["one ", "", "", ""]
