"""Tools, calls and results as text, for templates that know none of them."""

import json

import pytest

from serve.chat.capabilities import probe
from serve.chat.errors import TemplateError
from serve.chat.template import ChatTemplate
from serve.chat.tools.grammar import FAMILIES, family_of
from serve.chat.tools.in_words import TemplateInWords
from serve.chat.tools.layout import layout_of

PLAIN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
TAKING_TURNS = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 is even) %}"
    "{{ raise_exception('take turns') }}{% endif %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
)
USER = {"role": "user", "content": "Look."}
SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "See.", "parameters": {"type": "object"}},
}


def calling(*names, content=""):
    calls = [
        {"id": name, "type": "function", "function": {"name": name, "arguments": {"é": 1}}}
        for name in names
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls}


def result(text):
    return {"role": "tool", "name": "look", "tool_call_id": "look", "content": text}


def in_words(source, **more):
    return TemplateInWords(ChatTemplate(source), **{"has_system_role": True} | more)


def turns(text):
    return [turn for turn in text.split("|") if turn]


def test_tools_stand_behind_the_clients_own_system_text():
    system, user = turns(in_words(PLAIN).render([SYSTEM, USER], tools=[TOOL]))
    assert system.startswith("[system]Be brief.\n\n")
    assert user == "[user]Look."
    [line] = [line for line in system.splitlines() if '"look"' in line]
    assert json.loads(line) == TOOL["function"]


def test_without_a_system_turn_the_tools_get_one():
    system, user = turns(in_words(PLAIN).render([USER], tools=[TOOL]))
    assert system.startswith("[system]")
    assert '"look"' in system
    assert user == "[user]Look."


def test_where_the_template_knows_no_system_role_the_first_user_turn_begins_with_the_tools():
    template = in_words(TAKING_TURNS, has_system_role=False)
    [user] = turns(template.render([USER], tools=[TOOL]))
    assert user.startswith("[user]")
    assert user.endswith("\n\nLook.")
    assert '"look"' in user


@pytest.mark.parametrize("tools", [None, [TOOL]])
def test_calls_and_results_of_the_history_are_text_with_tools_and_without(tools):
    history = [SYSTEM, USER, calling("look", content="Let me."), result("a cat"), USER]
    _, _, assistant, after = turns(in_words(PLAIN).render(history, tools=tools))
    body = '{"name": "look", "arguments": {"é": 1}}'
    assert assistant == f"[assistant]Let me.\n<tool_call>\n{body}\n</tool_call>"
    assert after == "[user]<tool_response>\na cat\n</tool_response>\n\nLook."


def test_results_of_several_calls_are_one_turn_so_that_the_roles_take_turns():
    history = [USER, calling("look", "ask"), result("a cat"), result("meow")]
    template = in_words(TAKING_TURNS, has_system_role=False)
    last = turns(template.render(history, tools=[TOOL]))[-1]
    told = "<tool_response>\n{}\n</tool_response>"
    assert last == f"[user]{told.format('a cat')}\n{told.format('meow')}"


def test_two_turns_of_a_user_are_left_to_the_template():
    assert len(turns(in_words(PLAIN).render([USER, USER]))) == 2
    with pytest.raises(TemplateError, match="take turns"):
        in_words(TAKING_TURNS).render([USER, USER])


def test_a_conversation_without_tools_is_rendered_as_it_was():
    messages = [SYSTEM, USER, {"role": "assistant", "content": "Yes."}, USER]
    assert in_words(PLAIN).render(messages) == ChatTemplate(PLAIN).render(messages)


def test_what_is_asked_for_is_the_form_that_is_read_and_constrained():
    template = in_words(PLAIN)
    assert family_of(template) is FAMILIES["hermes"]
    layout = layout_of(template)
    assert (layout.style, layout.opening) == ("json", "<tool_call>")
    able = probe(template)
    assert able.supports_tools
    assert able.supports_tool_calls
