"""Parse, stop and exact-match rates."""

import pytest

from finetune.evaluate.figures import figures_of, is_python, parses, reference_parse_rate
from finetune.evaluate.samples import Sample
from finetune.evaluate.suites import Problem

FUNCTION = Problem(task_id="f", kind="function", prompt="def f(a):\n", solution="    return a\n")
GAP = Problem(
    task_id="SingleLineInfilling/0",
    kind="infilling",
    prompt="def f(a):\n",
    suffix="    return b\n",
    solution="    b = a\n",
)
TALK = Problem(
    task_id="t",
    kind="conversation",
    messages=({"role": "user", "content": "f"},),
    solution="return 1",
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Here:\n```python\ndef f(a):\n    return a\n```\nDone.", True),
        ("    return a", True),
        ("```python\ndef f(a):\n    return (\n```", False),
        ("I cannot do that.", False),
        ("", False),
    ],
)
def test_a_chat_answer_parses_by_its_code_block_or_as_a_body(answer, right):
    assert parses(FUNCTION, answer, "chat") is right


def test_a_gap_is_judged_in_its_place_and_by_its_first_line():
    assert parses(GAP, "    b = a\nand then some talk (", "fim")
    assert not parses(GAP, "    b = (", "fim")


@pytest.mark.parametrize("text", ["x = '\\d'", "def f(): pass"])
def test_python_is_told_without_warnings(text):
    assert is_python(text)


@pytest.mark.parametrize("text", ["# only a comment", "a\0b", "(" * 5000])
def test_what_no_program_can_be_made_of_is_no_python(text):
    assert not is_python(text)


def test_rates_are_shares_of_the_answers():
    samples = [
        Sample(task_id=GAP.task_id, completion="    b = a\n", mode="fim", finish_reason="stop"),
        Sample(task_id="t", completion="return 2", mode="chat", finish_reason="length"),
        Sample(task_id="f", completion="```\nf(\n```", mode="chat", finish_reason="length"),
        Sample(task_id="of another suite", completion="", finish_reason="stop"),
    ]
    figures = figures_of([FUNCTION, GAP, TALK], samples)
    assert figures.num_answers == 3
    assert figures.exact_match_rate == 0.5
    assert figures.stop_rate == pytest.approx(1 / 3)
    assert figures.parse_rate == pytest.approx(2 / 3)


def test_nothing_can_match_exactly_where_many_answers_are_right():
    sample = Sample(task_id="f", completion="    return a\n", mode="completion")
    assert figures_of([FUNCTION], [sample]).exact_match_rate is None


def test_the_right_answers_set_the_ceiling():
    odd = Problem(task_id="p", kind="conversation", solution="SELECT 1 FROM t")
    assert reference_parse_rate([FUNCTION, GAP, TALK, odd]) == 0.75
