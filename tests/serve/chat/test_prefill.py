"""A last assistant turn stands open in the prompt."""

from serve.chat.prefill import render
from serve.chat.template import ChatTemplate

PLAIN = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}|{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
THINKING = PLAIN + "{# </think> #}"
OPENING = PLAIN.replace("[assistant]{%", "[assistant]<think>\n{%") + "{# </think> #}"
USER = {"role": "user", "content": "hi"}


def begun(content="Dear", **fields):
    return [USER, {"role": "assistant", "content": content} | fields]


def test_the_beginning_of_an_answer_is_continued():
    assert render(ChatTemplate(PLAIN), begun()) == "[user]hi|[assistant]Dear"


def test_other_ends_of_a_conversation_are_rendered_as_they_are():
    template = ChatTemplate(PLAIN)
    assert render(template, [USER]) == "[user]hi|[assistant]"
    assert render(template, begun("")) == "[user]hi|[assistant]|[assistant]"
    assert render(template, begun(tool_calls=[{}])).endswith("Dear|[assistant]")
    alone = [{"role": "assistant", "content": "Dear"}]
    assert render(template, alone) == "[assistant]Dear|[assistant]"


def test_thoughts_end_where_the_answer_begins():
    thought = begun(reasoning_content="hm")
    answer = "</think>\n\nDear"
    assert render(ChatTemplate(THINKING), begun()).endswith("[assistant]Dear")
    assert render(ChatTemplate(THINKING), thought).endswith(f"[assistant]<think>\nhm\n{answer}")
    assert render(ChatTemplate(OPENING), begun()).endswith(f"[assistant]<think>\n\n{answer}")
    assert render(ChatTemplate(OPENING), thought).endswith(f"[assistant]<think>\nhm\n{answer}")


def test_thoughts_that_a_template_opens_whatever_is_asked_are_closed_where_none_are_wanted():
    off = {"enable_thinking": False}
    opened = ChatTemplate(OPENING)
    assert render(opened, [USER], variables=off).endswith("[assistant]<think>\n</think>\n\n")
    assert render(opened, [USER], variables={"enable_thinking": True}).endswith("<think>\n")
    assert render(ChatTemplate(THINKING), [USER], variables=off).endswith("[assistant]")
