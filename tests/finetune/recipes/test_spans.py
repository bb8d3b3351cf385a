"""Spans lie inside the text, are not blank, and are what their kind says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.recipes.settings import FimConfig
from finetune.recipes.spans import (
    choose_span,
    function_bodies,
    function_span,
    line_span,
    within,
)

CODE = '''import os


def größe(wert):
    """Say how large."""
    erg = len(wert)  # ä
    return erg


class Box:
    async def open(self):
        await self.lid
'''


def test_function_bodies_leave_out_docstrings_and_count_characters():
    texts = [[CODE[start:end] for start, end in body] for body in function_bodies(CODE)]
    assert texts == [["erg = len(wert)", "return erg"], ["await self.lid"]]


def test_a_function_span_runs_to_the_end_of_the_body():
    for seed in range(20):
        start, end = function_span(function_bodies(CODE), random.Random(seed))
        assert CODE[start:end] in {
            "erg = len(wert)  # ä\n    return erg",
            "return erg",
            "await self.lid",
        }


def test_statements_that_a_cut_splits_are_left_out():
    start = CODE.index("return erg")
    (body,) = within(function_bodies(CODE), start, start + 12)
    assert body == [(0, len("return erg"))]


@given(text=st.text(alphabet="ab =\n\té", max_size=60), seed=st.integers(0, 5))
def test_a_line_span_ends_at_a_line_end_and_begins_past_the_indent(text, seed):
    span = line_span(text, random.Random(seed))
    if span is None:
        assert not text.strip()
        return
    start, end = span
    assert text[start:end].strip()
    assert end == len(text) or text[end] == "\n"
    assert not text[start].isspace() or text[: start + 1].rsplit("\n", 1)[-1].strip() or start > 0


def test_a_gap_at_a_lines_first_word_holds_the_indent_as_often_as_not():
    bodies, config = function_bodies(CODE), FimConfig(rate=1, line=1, function=1, random=0)
    spans = [choose_span(CODE, bodies, config, random.Random(seed)) for seed in range(400)]
    whole = sum(CODE[:start].endswith("\n") and CODE[start] == " " for start, _ in spans)
    after = sum(
        not CODE[:start].rpartition("\n")[2].strip()
        and CODE[start] != " "
        and CODE[start - 1] == " "
        for start, _ in spans
    )
    assert 0.7 < whole / after < 1.4


@given(text=st.text(max_size=80), seed=st.integers(0, 5))
def test_a_chosen_span_is_never_blank(text, seed):
    span = choose_span(text, function_bodies(text), FimConfig(rate=1), random.Random(seed))
    if span is not None:
        assert text[slice(*span)].strip()


@pytest.mark.parametrize("text", ["def broken(:", "def f():\n" + "(" * 300, "\0"])
def test_what_is_no_python_has_no_functions(text):
    assert function_bodies(text) == []


def test_shares_of_nothing_are_never_chosen():
    config = FimConfig(rate=1, line=0, function=1, random=1)
    kinds = [choose_span(CODE, function_bodies(CODE), config, random.Random(n)) for n in range(40)]
    starts = {start for start, _ in kinds}
    assert CODE.index("return erg") in starts
    assert len(starts) > 10
