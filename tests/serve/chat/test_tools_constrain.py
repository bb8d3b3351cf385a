"""What each family's constraint lets through, and that the parser reads it back."""

import json
import re

import pytest

from serve.chat.template import ChatTemplate
from serve.chat.tools import constrain
from serve.chat.tools.calls import ToolCall
from serve.chat.tools.grammar import grammar_for
from serve.chat.tools.layout import layout_of, offered
from serve.chat.tools.parser import ToolParser
from serve.chat.tools.running import CallArguments, CallBegun, CallEnded

MARKS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]")
TEMPLATES = {
    "hermes": "<tool_call>",
    "tagged": "<tool_call><function=",
    "mistral": "[TOOL_CALLS]",
    "mistral_named": "[TOOL_CALLS][ARGS]",
    "llama": "<|python_tag|>",
    "pythonic": "<|python_start|>",
    "generic": "tools",
}
WRITE = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "lines": {"type": "integer"},
        "mode": {"enum": ["a", "w"]},
    },
    "required": ["path", "lines"],
}
TOOLS = [
    {"type": "function", "function": {"name": "write", "parameters": WRITE}},
    {"type": "function", "function": {"name": "stop"}},
]
ARGUMENTS = '{"path": "a.py", "lines": 3}'
ONE = {
    "hermes": f'<tool_call>\n{{"name": "write", "arguments": {ARGUMENTS}}}\n</tool_call>',
    "tagged": (
        "<tool_call>\n<function=write>\n<parameter=path>\na.py\n</parameter>\n"
        "<parameter=lines>\n3\n</parameter>\n</function>\n</tool_call>"
    ),
    "mistral": f'[TOOL_CALLS][{{"name": "write", "arguments": {ARGUMENTS}}}]',
    "mistral_named": f"[TOOL_CALLS]write[ARGS]{ARGUMENTS}",
    "llama": f'{{"name": "write", "parameters": {ARGUMENTS}}}',
    "pythonic": '[write(path="a.py", lines=3)]',
    "generic": f'{{"name": "write", "arguments": {ARGUMENTS}}}',
}
TWO = {
    "hermes": f'{ONE["hermes"]}\n<tool_call>\n{{"name": "stop", "arguments": {{}}}}\n</tool_call>',
    "tagged": f"{ONE['tagged']}\n<tool_call>\n<function=stop>\n</function>\n</tool_call>",
    "mistral": f'{ONE["mistral"][:-1]}, {{"name": "stop", "arguments": {{}}}}]',
    "mistral_named": f"{ONE['mistral_named']}[TOOL_CALLS]stop[ARGS]{{}}",
    "pythonic": '[write(path="a.py", lines=3), stop()]',
}
WRONG = {  # with a field that is missing, a tool nobody offered, or text before the call
    "hermes": [
        '<tool_call>\n{"name": "write", "arguments": {"path": "a.py"}}',
        "Sure: <tool_call>",
    ],
    "tagged": ["<tool_call>\n<function=erase>", "<tool_call>\n<function=write>\n</function>"],
    "mistral": ['[TOOL_CALLS][{"name": "erase"'],
    "mistral_named": ["[TOOL_CALLS]erase", '[TOOL_CALLS]write[ARGS]{"lines"'],
    "llama": ['{"name": "write", "parameters": {"path": 3'],
    "pythonic": ["[write(lines=3", "[erase("],
    "generic": ['{"name": "write", "arguments": {"path": "a.py"}'],
}


class Vocabulary:
    """Bytes, and the marks as control tokens where `marks` says so."""

    def __init__(self, marks):
        self.marks = {mark: 257 + number for number, mark in enumerate(marks)}
        self.tokens = [*(bytes([i]) for i in range(256)), b"<end>"]
        self.tokens += [mark.encode() for mark in marks]
        self.special_token_ids = list(range(256, len(self.tokens)))
        self.eos_token_id, self.bos_token_id = 256, None

    def __call__(self, text):
        return list(text)

    def encode(self, text):
        for mark, token_id in self.marks.items():
            text = text.replace(mark, chr(0xE000 + token_id))
        pieces = ([ord(c) - 0xE000] if ord(c) >= 0xE000 else list(c.encode()) for c in text)
        return [token_id for piece in pieces for token_id in piece]


@pytest.fixture(scope="module", params=[True, False], ids=["marks are tokens", "marks are text"])
def vocabulary(request):
    return Vocabulary(MARKS if request.param else ())


@pytest.fixture(scope="module")
def takes(vocabulary):
    """Return how many tokens of a text a constraint takes, of how many, and whether it may end."""
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    tokenizer = LLTokenizer(TokenizerWrapper(vocabulary))

    def judge(constraint, text):
        matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(constraint.source), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        token_ids = vocabulary.encode(text)
        count = matcher.try_consume_tokens(token_ids)
        return count == len(token_ids), matcher.is_accepting()

    return judge


def made(how, family, vocabulary, *, tools=TOOLS, several=True):
    layout = layout_of(ChatTemplate(TEMPLATES[family]))
    return how(layout, offered(tools), vocabulary.marks.get, several=several)


def read(family, text, *, without=()):
    for mark in without:
        text = text.replace(mark, "")
    parser = ToolParser(grammar_for(ChatTemplate(TEMPLATES[family]), ["write", "stop"]))
    calls = []
    for piece in [*parser.push(text), *parser.flush()]:
        match piece:
            case CallBegun(name):
                calls.append(ToolCall(name=name, arguments=""))
            case CallArguments(more):
                whole = calls[-1].arguments + more
                calls[-1] = ToolCall(name=calls[-1].name, arguments=whole)
            case CallEnded(is_whole):
                assert is_whole
            case _:
                calls.append(piece)
    return calls


@pytest.mark.parametrize("family", ONE)
def test_a_call_that_must_come_has_the_familys_form_and_is_read_back(family, takes, vocabulary):
    constraint = made(constrain.must_call, family, vocabulary)
    assert constraint.trigger is None
    assert takes(constraint, ONE[family]) == (True, True)
    [call] = read(family, ONE[family], without=vocabulary.marks)
    assert call.name == "write"
    arguments = json.loads(call.arguments)
    assert arguments["path"] == "a.py"
    assert int(arguments["lines"]) == 3


@pytest.mark.parametrize("family", TWO)
def test_several_calls_come_only_when_they_may(family, takes, vocabulary):
    constraint = made(constrain.must_call, family, vocabulary)
    assert takes(constraint, TWO[family]) == (True, True)
    calls = read(family, TWO[family], without=vocabulary.marks)
    assert [call.name for call in calls] == ["write", "stop"]
    single = made(constrain.must_call, family, vocabulary, several=False)
    assert takes(single, TWO[family])[0] is False
    assert takes(single, ONE[family]) == (True, True)


@pytest.mark.parametrize(("family", "text"), [(f, text) for f in WRONG for text in WRONG[f]])
def test_a_call_that_is_wrong_does_not_come(family, text, takes, vocabulary):
    assert takes(made(constrain.must_call, family, vocabulary), text)[0] is False


@pytest.mark.parametrize("family", ONE)
def test_a_call_that_may_come_is_held_behind_its_trigger(family, takes, vocabulary):
    constraint = made(constrain.may_call, family, vocabulary)
    found = re.search(constraint.trigger, ONE[family])
    assert takes(constraint, ONE[family][found.end() :]) == (True, True)
    assert not constraint.once
    assert made(constrain.may_call, family, vocabulary, several=False).once


@pytest.mark.parametrize("family", ["llama", "pythonic", "generic"])
@pytest.mark.parametrize("text", ['{"name": "Ada"}', "[1, 2]", "[writer(1)]", "write it"])
def test_an_answer_that_only_looks_like_a_call_stays_free(family, text):
    trigger = made(constrain.may_call, family, Vocabulary(())).trigger
    assert re.search(trigger, text) is None


@pytest.mark.parametrize("family", ["hermes", "tagged", "mistral", "mistral_named", "pythonic"])
def test_beside_calls_a_value_of_the_schema_may_come(family, takes, vocabulary):
    layout = layout_of(ChatTemplate(TEMPLATES[family]))
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    constraint = constrain.call_or_value(
        layout, offered(TOOLS), vocabulary.marks.get, schema, strict=True, several=True
    )
    assert takes(constraint, ONE[family]) == (True, True)
    assert takes(constraint, '{"ok": true}') == (True, True)
    assert takes(constraint, '{"ok": 1}')[0] is False


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("[f()]", True),
        ("[f(b=1)]", True),
        ('[f(a="x", c=null)]', True),
        ('[f(c=null, a="x")]', False),
        ("[f(a=1)]", False),
        ("[f(b=1, )]", False),
    ],
)
def test_optional_arguments_of_a_pythonic_call_come_in_order_or_not_at_all(text, good, takes):
    properties = {"a": {"type": "string"}, "b": {"type": "integer"}, "c": {"type": "null"}}
    tool = {"function": {"name": "f", "parameters": {"properties": properties}}}
    constraint = made(constrain.must_call, "pythonic", Vocabulary(()), tools=[tool])
    assert takes(constraint, text)[0] is good


def test_a_text_parameter_of_a_tagged_call_may_hold_anything_but_its_end(takes, vocabulary):
    code = 'if a < b and "c" in d:\n    print("</param>")'
    text = f"<tool_call>\n<function=write>\n<parameter=path>\n{code}\n</parameter>\n"
    constraint = made(constrain.must_call, "tagged", vocabulary)
    assert takes(constraint, text) == (True, False)


def test_parameters_that_refer_to_definitions_find_them(takes):
    schema = {
        "$defs": {"level": {"enum": [1, 2]}},
        "properties": {"level": {"$ref": "#/$defs/level"}},
        "required": ["level"],
    }
    tool = {"function": {"name": "f", "parameters": schema}}
    for family, text in {
        "pythonic": "[f(level=2)]",
        "generic": '{"name": "f", "arguments": {"level": 2}}',
    }.items():
        constraint = made(constrain.must_call, family, Vocabulary(()), tools=[tool])
        assert takes(constraint, text) == (True, True)


def test_a_schema_that_cannot_be_followed_can_be_left_out(takes, vocabulary):
    tool = {"function": {"name": "f", "parameters": {"properties": {"a": {"type": "banana"}}}}}
    layout = layout_of(ChatTemplate(TEMPLATES["hermes"]))
    plain = constrain.with_plain_arguments(offered([tool]))
    constraint = constrain.may_call(layout, plain, vocabulary.marks.get, several=True)
    call = '\n{"name": "f", "arguments": {"a": "any"}}\n</tool_call>'
    assert takes(constraint, call) == (True, True)
