"""Calls and results that a conversation brings along."""

import json

import pytest

from serve.chat.errors import MessageError
from serve.chat.template import ChatTemplate
from serve.chat.tools.history import complete

LOOP = "{% for m in messages %}{% for c in m.tool_calls or [] %}CALL{% endfor %}{% endfor %}"
DUMPING = LOOP.replace("CALL", "{{ c.function.arguments | tojson }}")
LISTING = LOOP.replace("CALL", "{% for k, v in c.function.arguments.items() %}{{ k }}{% endfor %}")
PASTING = LOOP.replace("CALL", "{{ 'x' + c.function.arguments }}")
PRINTING = LOOP.replace("CALL", "{{ c.function.arguments }}")


def called(call_id="a", name="look"):
    call = {"id": call_id, "function": {"name": name, "arguments": {"at": 1}}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def result(call_id="a", **more):
    return {"role": "tool", "content": "seen", "tool_call_id": call_id} | more


@pytest.mark.parametrize(
    ("template", "is_text"),
    [(DUMPING, False), (LISTING, False), (PASTING, True), (PRINTING, True), ("silent", False)],
)
def test_arguments_are_text_only_for_templates_that_put_them_in_as_they_are(template, is_text):
    [message] = complete([called()], ChatTemplate(template))
    arguments = message["tool_calls"][0]["function"]["arguments"]
    assert isinstance(arguments, str) == is_text
    assert (json.loads(arguments) if is_text else arguments) == {"at": 1}


def test_a_result_gets_the_name_of_the_tool_unless_it_has_one():
    messages = [called("a", "look"), called("b", "write"), result("b"), result("a", name="mine")]
    completed = complete(messages, ChatTemplate(DUMPING))
    assert [message.get("name") for message in completed] == [None, None, "write", "mine"]


def test_the_messages_given_are_left_as_they_were():
    messages = [called(), result()]
    complete(messages, ChatTemplate(PASTING))
    assert messages == [called(), result()]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([result()], "messages.0.tool_call_id"),
        ([called(), result("b")], "messages.1.tool_call_id"),
        ([called(), result(None)], "messages.1.tool_call_id"),
        ([result(), called()], "messages.0.tool_call_id"),
        ([called(None)], "messages.0.tool_calls.0.id"),
        ([called("")], "messages.0.tool_calls.0.id"),
        ([called(5)], "messages.0.tool_calls.0.id"),
    ],
)
def test_calls_and_results_that_do_not_meet_are_refused_by_name(messages, param):
    with pytest.raises(MessageError) as caught:
        complete(messages, ChatTemplate(DUMPING))
    assert caught.value.param == param
