"""Thoughts and answers, whatever the split of the text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat.reasoning import Marks, Thought, ThoughtParser, marks_of
from serve.chat.template import ChatTemplate

THINK = Marks("<think>", "</think>")


def read(pieces, *, inside=False):
    parser = ThoughtParser(THINK, inside=inside)
    read = [each for piece in pieces for each in parser.push(piece)] + parser.flush()
    thought = "".join(each.text for each in read if isinstance(each, Thought))
    return thought, "".join(each for each in read if isinstance(each, str))


@pytest.mark.parametrize(
    ("text", "inside", "expected"),
    [
        ("<think>\nFirst.\n</think>\n\nThen.", False, ("First.", "Then.")),
        ("\n <think>a</think>b", False, ("a", "b")),
        ("First.\n</think>\n\nThen.", True, ("First.", "Then.")),
        ("<think>\n\n</think>\n\nThen.", False, ("", "Then.")),
        ("No thoughts.", False, ("", "No thoughts.")),
        ("  indented", False, ("", "  indented")),
        ("Say <think>x</think>", False, ("", "Say <think>x</think>")),
        ("<think>a</think>b<think>c</think>", False, ("a", "b<think>c</think>")),
        ("<think>cut off", False, ("cut off", "")),
        ("<think>cut </thi", False, ("cut </thi", "")),
        ("<thi", False, ("", "<thi")),
        ("<think>a < b </ c</think>d", False, ("a < b </ c", "d")),
        ("", False, ("", "")),
    ],
)
def test_every_split_of_a_text_reads_the_same(text, inside, expected):
    for size in (1, 2, 5, 1000):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert read(pieces, inside=inside) == expected, size


@given(
    parts=st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think>", " ", "\n", "a"])),
    cuts=st.lists(st.integers(0, 40)),
    inside=st.booleans(),
)
def test_a_stream_equals_the_whole_and_loses_only_marks_and_blanks(parts, cuts, inside):
    text = "".join(parts)
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    thought, answer = read(pieces, inside=inside)
    assert (thought, answer) == read([text], inside=inside)
    assert len(thought) + len(answer) <= len(text)


def test_a_thought_comes_out_while_it_is_thought():
    parser = ThoughtParser(THINK, inside=True)
    assert parser.push("one ") == [Thought("one")]
    assert parser.push("two") == [Thought(" two")]


def test_the_template_says_whether_and_how_a_model_thinks():
    assert marks_of(ChatTemplate("{{ messages }}")) is None
    assert marks_of(ChatTemplate("{{ '<think>' }}{{ '</think>' }}")) == THINK
    assert marks_of(ChatTemplate("{{ '[/THINK]' }}")).opening == "[THINK]"
