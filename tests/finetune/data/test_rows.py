"""Row formats: each is recognised, and a wrong row is named."""

import pytest

from finetune.data.rows import detect_format, to_example
from finetune.errors import DataError

ALPACA = {"instruction": "add", "input": "1 2", "output": "3"}
MESSAGES = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
COMPLETION = {"prompt": "def f", "completion": "(): pass"}


def convert(row, format_name, system=None):
    example = to_example(row, format_name=format_name, system=system, where="x.json, row 7")
    return [(turn.role, turn.content) for turn in example.messages]


@pytest.mark.parametrize(
    ("row", "name"),
    [(ALPACA, "alpaca"), (MESSAGES, "messages"), (COMPLETION, "prompt_completion")],
)
def test_each_format_is_recognised(row, name):
    assert detect_format(row, "here") == name


def test_alpaca_joins_instruction_and_input():
    assert convert(ALPACA, "alpaca") == [("user", "add\n\n1 2"), ("assistant", "3")]


def test_alpaca_without_input_is_the_instruction_alone():
    assert convert({"instruction": "add", "output": "3"}, "alpaca")[0] == ("user", "add")


def test_messages_are_kept_as_they_are():
    assert convert(MESSAGES, "messages") == [("user", "hi"), ("assistant", "yo")]


def test_prompt_and_completion_become_two_turns():
    assert convert(COMPLETION, "prompt_completion")[1] == ("assistant", "(): pass")


@pytest.mark.parametrize(
    ("row", "name"),
    [(ALPACA, "alpaca"), (MESSAGES, "messages"), (COMPLETION, "prompt_completion")],
)
def test_a_system_prompt_comes_first(row, name):
    assert convert(row, name, system="Be brief.")[0] == ("system", "Be brief.")


def test_a_conversation_keeps_its_own_system_prompt():
    row = {"messages": [{"role": "system", "content": "own"}, *MESSAGES["messages"]]}
    assert convert(row, "messages", system="other")[0] == ("system", "own")


@pytest.mark.parametrize(
    ("row", "name", "message"),
    [
        ({"question": "a"}, "alpaca", "row 7: alpaca rows need instruction, output; missing"),
        ({"question": "a"}, "alpaca", "found keys question"),
        ([1], "alpaca", "expected an object, found list"),
        ({"instruction": 3, "output": "x"}, "alpaca", "`instruction` must be text, found int"),
        ({"instruction": "a", "output": " "}, "alpaca", "the answer is empty"),
        ({"messages": "hi"}, "messages", "list of {role, content} objects"),
        ({"messages": []}, "messages", "end with an assistant turn, found nothing"),
        ({"messages": MESSAGES["messages"][:1]}, "messages", "assistant turn, found user"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages", "robot"),
    ],
)
def test_a_wrong_row_says_where_what_and_found(row, name, message):
    with pytest.raises(DataError, match=message):
        convert(row, name)


def test_an_unknown_format_lists_what_is_known():
    with pytest.raises(DataError, match=r"expected alpaca: instruction, output; .*found keys a, b"):
        detect_format({"a": 1, "b": 2}, "x.json, row 1")
