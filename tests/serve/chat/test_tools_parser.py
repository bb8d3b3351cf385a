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
from serve.chat.tools.running import CallArguments, CallBegun, CallEnded
from serve.chat.tools.tagged import typed_parameters

CODE = "<function=write>\n<parameter=text>\nif a:\n    b = '</'\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>"  # noqa: E501
WRITTEN = ("write", {"text": "if a:\n    b = '</'", "n": 3})
TYPED = frozenset({("write", "n"), ("write", "flag")})
KNOWN = frozenset({"look", "look_up", "write"})
EVERYONE = FAMILIES | {"generic": GENERIC}
LOOK = '{"name": "look", "arguments": {"at": "a } \\" b"}}'
LOOKED = ("look", {"at": 'a } " b'})


def read(
    text: str, family: str = "generic", cuts: tuple[int, ...] = (), *, trusts_start: bool = False
) -> tuple[str, list]:
    """Return the content and the calls of a text pushed in pieces."""
    grammar = Grammar(family=EVERYONE[family], known=KNOWN, typed=TYPED, trusts_start=trusts_start)
    parser = ToolParser(grammar)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = []
    for start, end in itertools.pairwise(places):
        pieces += parser.push(text[start:end])
    pieces += parser.flush()
    content = "".join(each for each in pieces if isinstance(each, str))
    return content, [(name, parsed(arguments)) for name, arguments in calls_of(pieces)]


def calls_of(pieces) -> list[tuple[str, str]]:
    """Return name and arguments of each call, given whole or in parts, which are well-formed."""
    calls, is_open = [], False
    for piece in pieces:
        match piece:
            case ToolCall(name=name, arguments=arguments):
                calls.append((name, arguments))
            case CallBegun(name):
                calls.append((name, ""))
            case CallArguments(text):
                assert is_open
                calls[-1] = (calls[-1][0], calls[-1][1] + text)
            case CallEnded(is_whole):
                assert is_open
                assert isinstance(parsed(calls[-1][1]), dict) == is_whole
        if isinstance(piece, CallBegun | CallEnded):
            assert is_open == isinstance(piece, CallEnded)
            is_open = not is_open
        assert not (is_open and isinstance(piece, str | ToolCall))
    assert not is_open
    return calls


def parsed(arguments):
    """Return the object, or the text of one that breaks off."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


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


STREAMED = {
    "hermes": '<tool_call>\n{"name": "look", "arguments": %s}\n</tool_call>',
    "mistral": '[TOOL_CALLS][{"name": "look", "arguments": %s}]',
    "generic": "[TOOL_CALLS]look[ARGS]%s",
    "llama": '{"name": "look", "parameters": %s}',
}
ARGUMENTS = '{"at": "a \\u00e9 é }", "list": [1, -2.5e3, {"x": null}, []], "n": 12, "o": {}}'


@pytest.mark.parametrize("family", STREAMED)
def test_arguments_come_as_they_are_written(family):
    text = STREAMED[family] % ARGUMENTS
    grammar = Grammar(family=EVERYONE[family], known=KNOWN, trusts_start=family == "llama")
    parser = ToolParser(grammar)
    told = [parser.push(letter) for letter in text]
    held = max(len(ARGUMENTS[: i + 1]) - num_told for i, num_told in enumerate(lengths(told, text)))
    assert held <= len("\\u00e9")  # never more than an escape, a number or a word
    pieces = [piece for each in told for piece in each] + parser.flush()
    assert calls_of(pieces) == [("look", ARGUMENTS)]
    assert not [piece for piece in pieces if isinstance(piece, str)]


def lengths(told, text):
    """Return how much of the arguments was told after each of their letters."""
    start = text.index(ARGUMENTS)
    counts = [sum(len(p.text) for p in each if isinstance(p, CallArguments)) for each in told]
    return list(itertools.accumulate(counts))[start : start + len(ARGUMENTS)]


@pytest.mark.parametrize("cut", range(1, len(ARGUMENTS)))
def test_a_call_that_breaks_off_leaves_the_beginning_of_its_arguments(cut):
    text = STREAMED["hermes"] % ARGUMENTS
    start = text.index(ARGUMENTS) + 1
    content, calls = read(text[: start + cut], "hermes")
    assert content == ""
    [(name, arguments)] = calls
    assert name == "look"
    if isinstance(arguments, str):
        assert ARGUMENTS.startswith(arguments)


def test_line_breaks_in_a_string_are_escaped_as_json_wants_it():
    text = STREAMED["hermes"] % '{"at": "a\n\tb"}'
    assert read(text, "hermes") == ("", [("look", {"at": "a\n\tb"})])


@pytest.mark.parametrize(
    "wrong",
    ['"b"', "nul]", "[1,]", "[1 2]", '{"x" 1}', "{1: 2}", "01", '"\\x"', "[" * 99, '{"a": 1]'],
)
def test_arguments_that_are_no_json_after_all_end_where_they_were_sound(wrong):
    sound = '{"at": "a", "b": '
    _, calls = read(STREAMED["hermes"] % f"{sound}{wrong}, oops}}", "hermes")
    [(_, arguments)] = calls
    assert arguments.startswith(sound)


def test_bare_json_is_read_whole_where_nothing_vouches_for_it():
    parser = ToolParser(Grammar(family=FAMILIES["llama"], known=KNOWN))
    assert parser.push('{"name": "look", "parameters": {"at": "a') == []
    trusting = ToolParser(Grammar(family=FAMILIES["llama"], known=KNOWN, trusts_start=True))
    assert trusting.push('{"name": "look", "parameters": {"at": "a')[0] == CallBegun("look")
    later = ToolParser(Grammar(family=FAMILIES["llama"], known=KNOWN, trusts_start=True))
    later.push("So:\n")
    assert later.push('{"name": "look", "parameters": {"at": "a') == []


def test_an_answer_in_json_is_let_go_at_its_first_key():
    parser = ToolParser(Grammar(family=FAMILIES["llama"], known=KNOWN))
    assert parser.push('{"ans') == ['{"ans']


WORDS = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<|python_start|>",
         "<|python_end|>", "```json\n", "```\n", "```", "\n", " ", ";", ",", "{", "}", "[", "]",
         "<function=write>", "</function>", "<parameter=n>", "</parameter>", CODE,
         LOOK, f"\n{LOOK}", f"<tool_call>{LOOK}</tool_call>", f"```json\n{LOOK}\n```",
         f"[{LOOK}]", "[look(at='b')]", "[look(", "look", 'look_up{"n": 1}', "[ARGS]",
         '{"name": "look", "arguments": {"at": "a", ', '"b": [1.5e3, tr', "ue, {}]}", "}}",
         '[TOOL_CALLS]look[ARGS]{"n": -', "\\u00", "e9", "\\",
         '"name"', "text", "'", '"', ")", '{"name": "other", "arguments": {}}']  # fmt: skip


@given(
    family=st.sampled_from(list(EVERYONE)),
    words=st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=8),
    cuts=st.lists(st.integers(0, 200), max_size=12),
    trusts_start=st.booleans(),
)
def test_any_split_of_any_text_gives_the_same_as_the_whole(family, words, cuts, trusts_start):
    text = "".join(words)
    whole = read(text, family, trusts_start=trusts_start)
    assert read(text, family, tuple(cuts), trusts_start=trusts_start) == whole
    every = tuple(range(len(text)))
    assert read(text, family, every, trusts_start=trusts_start) == whole


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
