import pytest

from serve.chat.errors import MessageError
from serve.chat.messages import for_template


def test_content_becomes_a_string_whatever_form_it_had():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    contents = ["x", parts, None]
    rendered = for_template([{"role": "user", "content": content} for content in contents])
    assert [message["content"] for message in rendered] == ["x", "a\nb", ""]


def test_the_developer_role_is_the_system_role():
    assert for_template([{"role": "developer", "content": "x"}])[0]["role"] == "system"


def test_tool_arguments_become_objects():
    def arguments(value):
        call = {"function": {"name": "f", "arguments": value}}
        [message] = for_template([{"role": "assistant", "tool_calls": [call]}])
        return message["tool_calls"][0]["function"]["arguments"]

    assert arguments('{"x": 1}') == {"x": 1}
    assert arguments({"x": 1}) == {"x": 1}
    assert arguments("") == arguments(None) == {}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": [{"type": "image_url"}]}, "messages.0.content.0"),
        ({"content": [{"type": "text"}]}, "messages.0.content.0"),
        ({"content": ["bare"]}, "messages.0.content.0"),
        ({"content": 5}, "messages.0.content"),
        ({"tool_calls": [5]}, "messages.0.tool_calls.0"),
        ({"tool_calls": [{"function": {}}]}, "messages.0.tool_calls.0"),
        (
            {"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
        (
            {"tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]},
            "messages.0.tool_calls.0.function.arguments",
        ),
    ],
)
def test_what_no_template_can_take_is_refused_by_name(message, param):
    with pytest.raises(MessageError) as caught:
        for_template([{"role": "assistant"} | message])
    assert caught.value.param == param
