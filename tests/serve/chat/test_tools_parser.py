"""What model families write, whole and in every split."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.chat.template import ChatTemplate
from serve.chat.tools.calls import ToolCall
from serve.chat.tools.grammar import FAMILIES, GENERIC, Grammar, family_of, new_call_id
from serve.chat.tools.parser import ToolParser
from serve.chat.tools.tagged import typed_parameters

CODE = "<function=write>\n<parameter=text>\nif a:\n    b = '</'\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>"  # noqa: E501
WRITTEN = ("write", {"text": "if a:\n    b = '</'", "n": 3})
TYPED = frozenset({("write", "n"), ("write", "flag")})
KNOWN = frozenset({"look", "look_up", "write"})
EVERYONE = FAMILIES | {"generic": GENERIC}
LOOK = '{"name": "look", "arguments": {"at": "a } \\" b"}}'
LOOKED = ("look", {"at": 'a } " b'})


def read(text: str, family: str = "generic", cuts: tuple[int, ...] = ()) -> tuple[str, list]:
    """Return the content and the calls of a text pushed in pieces."""
    parser = ToolParser(Grammar(family=EVERYONE[family], known=KNOWN, typed=TYPED))
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = []
    for start, end in itertools.pairwise(places):
        pieces += parser.push(text[start:end])
    pieces += parser.flush()
    content = "".join(each for each in pieces if isinstance(each, str))
    calls = [each for each in pieces if isinstance(each, ToolCall)]
    return content, [(call.name, json.loads(call.arguments)) for call in calls]


@pytest.mark.parametrize(
    ("family", "text", "content", "calls"),
    [
        ("hermes", f"<tool_call>\n{LOOK}\n</tool_call>", "", [LOOKED]),
        ("hermes", f"Let me.\n\n<tool_call>{LOOK}</tool_call>", "Let me.", [LOOKED]),
        ("hermes", f"<tool_call>{LOOK}</tool_call>\n" * 2, "", [LOOKED] * 2),
        ("hermes", f"a <tool_call>{LOOK}</tool_call> b {LOOK}\n{LOOK}", f"ab {LOOK}", [LOOKED] * 2),
        ("hermes", f"<tool_call>\n{LOOK}", "", [LOOKED]),
        ("hermes", f"<tool_call>{LOOK}</tool_call> Done.", "Done.", [LOOKED]),
        ("hermes", '<tool_call>{"name": "other"}</tool_call>', "", [("other", {})]),
        ("hermes", f"Now.\n<tool_call>\n{CODE}\n</tool_call>", "Now.", [WRITTEN]),
        ("hermes", f"<tool_call>\n{CODE}\n{CODE}\n</tool_call>", "", [WRITTEN] * 2),
        ("generic", f"{CODE}\n</tool", "</tool", [WRITTEN]),
        ("hermes", "<tool_call><function=other></function></tool_call>", "", [("other", {})]),
        (
            "hermes",
            ("<function=write><parameter=flag>True</parameter><parameter=n>many</parameter>"
            "<parameter=text>7</parameter></function>"),
            "",
            [("write", {"flag": True, "n": "many", "text": "7"})],
        ),
        ("hermes", LOOK, "", [LOOKED]),
        ("hermes", f"So:\n```json\n{LOOK}\n```\n", "So:", [LOOKED]),
        ("llama", '{"name": "look", "parameters": {"n": 1}}', "", [("look", {"n": 1})]),
        ("llama", f"<|python_tag|>{LOOK}; {LOOK}", "", [LOOKED] * 2),
        ("llama", f"{LOOK}\n{LOOK}", "", [LOOKED] * 2),
        (
            "llama",
            '{"type": "function", "function": {"name": "look", "arguments": "{\\"n\\": 1}"}}',
            "",
            [("look", {"n": 1})],
        ),
        ("llama", '{"function": "look", "parameters": {}}', "", [("look", {})]),
        (
            "pythonic",
            "<|python_start|>[look(at='x)', n=-1, ok=true), write()]<|python_end|>",
            "",
            [("look", {"at": "x)", "n": -1, "ok": True}), ("write", {})],
        ),
        ("llama", "[look(at=['a', {'b': None}])]", "", [("look", {"at": ["a", {"b": None}]})]),
        ("mistral", f"[TOOL_CALLS][{LOOK}, {LOOK}]", "", [LOOKED] * 2),
        ("mistral", f"[{LOOK}]", "", [LOOKED]),
        ("mistral", '[TOOL_CALLS]look{"n": 1}', "", [("look", {"n": 1})]),
        ("mistral", '[TOOL_CALLS]new[ARGS]{"n": 1}', "", [("new", {"n": 1})]),
        ("mistral", 'look_up{"n": 1}look{"n": 2}', "", [("look_up", {"n": 1}), ("look", {"n": 2})]),
        ("generic", f"[TOOL_CALLS][{LOOK}]", "", [LOOKED]),
        ("generic", f"<tool_call>{LOOK}</tool_call>", "", [LOOKED]),
        ("hermes", '<tool_call>{"name": "write", "arguments": {"t": "a\nb"}}</tool_call>', "",
         [("write", {"t": "a\nb"})]),
    ],
)  # fmt: skip
def test_calls_are_found_and_no_markup_is_left(family, text, content, calls):
    assert read(text, family) == (content, calls)
    assert read(text, family, tuple(range(len(text)))) == (content, calls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  plain text\n",
        '<tool_call>{"name": "look", "arguments": {oops}}</tool_call>',
        "<tool_call>nothing</tool_call>",
        "<function=stranger></function>",
        "<tool_call><function=write>oops</function></tool_call>",
        "<function=write><parameter=text>cut off",
        "<function=",
        '<tool_call>{"name": "look"',
        "if a <tool and b:\n    {x}\n",
        '{"name": "stranger", "arguments": {}}',
        '{"name": "look"}',
        '{"answer": 42}',
        '```json\n{"answer": 42}\n```\n',
        "```python\nprint([look(1)])\n```",
        "[look(1)]",
        "[1, 2]",
        "[look(at=open('x'))]",
        f"the call {LOOK} within a line",
        '{"name": "look", "arguments": NaN}',
        '{"name": "look", "arguments": {"x": NaN}}',
        "[look(x=1e999)]",
        '{"name": "look", "arguments": ' + "[" * 5000 + "]" * 5000 + "}",
        "```json\n",
        "<|python_tag|>",
        "[TOOL_CALLS]",
    ],
)
@pytest.mark.parametrize("family", EVERYONE)
def test_what_is_no_call_is_content_to_the_letter(family, text):
    assert read(text, family) == (text, [])


def test_arguments_that_are_no_valid_unicode_stay_ascii():
    parser = ToolParser(Grammar(family=GENERIC, known=KNOWN))
    parser.push('{"name": "look", "arguments": {"x": "\\ud800"}}')
    [call] = parser.flush()
    assert call.arguments.isascii()


def test_content_comes_out_at_once_while_no_call_can_begin():
    parser = ToolParser(Grammar(family=FAMILIES["hermes"], known=KNOWN))
    assert parser.push("Let me") == ["Let me"]
    assert parser.push(" look.\n") == [" look."]
    assert parser.push("<tool") == []
    assert parser.push("ing> is") == ["\n<tooling> is"]


def test_an_answer_in_json_is_let_go_at_its_first_key():
    parser = ToolParser(Grammar(family=FAMILIES["llama"], known=KNOWN))
    assert parser.push('{"ans') == ['{"ans']


WORDS = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<|python_start|>",
         "<|python_end|>", "```json\n", "```\n", "```", "\n", " ", ";", ",", "{", "}", "[", "]",
         "<function=write>", "</function>", "<parameter=n>", "</parameter>", CODE,
         LOOK, f"\n{LOOK}", f"<tool_call>{LOOK}</tool_call>", f"```json\n{LOOK}\n```",
         f"[{LOOK}]", "[look(at='b')]", "[look(", "look", 'look_up{"n": 1}', "[ARGS]",
         '"name"', "text", "'", '"', ")", '{"name": "other", "arguments": {}}']  # fmt: skip


@given(
    family=st.sampled_from(list(EVERYONE)),
    words=st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=12),
)
def test_any_split_of_any_text_gives_the_same_as_the_whole(family, words, cuts):
    text = "".join(words)
    whole = read(text, family)
    assert read(text, family, tuple(cuts)) == whole
    assert read(text, family, tuple(range(len(text)))) == whole


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(list(EVERYONE)))
def test_without_a_call_nothing_of_the_text_is_lost(words, family):
    text = "".join(words)
    content, calls = read(text, family)
    assert calls or content == text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_is_told_by_the_templates_own_mark(family):
    mark = FAMILIES[family].marks[0].opening
    assert family_of(ChatTemplate(f"x {mark} y")) == FAMILIES[family]
    assert family_of(ChatTemplate("x", tool_source=f"{mark}")) == FAMILIES[family]


def test_a_template_without_marks_is_read_in_every_form():
    assert family_of(ChatTemplate("{{ tools }}")) == GENERIC


def test_only_parameters_that_the_schema_calls_strings_stay_text():
    kinds = {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": ["string", "null"]},
             "d": {}, "e": {"type": "object"}, "f": 5}  # fmt: skip
    assert typed_parameters("t", {"properties": kinds}) == [("t", "b"), ("t", "e")]
    assert typed_parameters("t", None) == typed_parameters("t", {"properties": 5}) == []


def test_ids_are_what_the_familys_template_accepts_as_history():
    assert new_call_id(FAMILIES["hermes"]).startswith("call_")
    short = new_call_id(FAMILIES["mistral"])
    assert len(short) == 9
    assert short.isalnum()
