"""What tool_choice makes of an answer, over a real socket, with a scripted engine."""

import json

import pytest

LOOK = {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]}
TOOLS = [
    {"type": "function", "function": {"name": "look", "parameters": LOOK}},
    {"type": "function", "function": {"name": "stop"}},
]
HERMES = (
    "{# <tool_call> #}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}[assistant]"
)
BARE = HERMES.replace("<tool_call>", "")
THINKING = f"{HERMES}{{# </think> #}}<think>\n"
CALL = '<tool_call>\n{"name": "look", "arguments": {"at": 1}}\n</tool_call>'
FORMAT = {"type": "json_object"}


def named(name):
    return {"type": "function", "function": {"name": name}}


@pytest.fixture
def hermes(serving):
    live = serving(metadata={"tokenizer.chat_template": HERMES})
    live.engine.script.pieces = [CALL]
    return live


def post(live, path="/v1/chat/completions", **body):
    sent = {"messages": [{"role": "user", "content": "hi"}], "tools": TOOLS} | body
    return live.http.post(path, json=sent)


def constraint(live, **body):
    response = post(live, **body)
    assert response.status_code == 200, response.text
    return live.engine.requests.pop().constraint


@pytest.mark.parametrize("choice", ["required", named("look"), named("stop")])
def test_a_call_that_must_come_is_constrained_from_the_first_token(hermes, choice):
    made = constraint(hermes, tool_choice=choice)
    assert made.trigger is None
    assert made.source.startswith("start: calls\ncalls: one_call")
    wanted = ["look", "stop"] if choice == "required" else [choice["function"]["name"]]
    assert [name for name in ("look", "stop") if f'{name}\\"' in made.source] == wanted


def test_several_calls_may_come_unless_one_is_named_or_only_one_is_wanted(hermes):
    repeated = [
        "(" in constraint(hermes, tool_choice=choice).source.splitlines()[1]
        for choice in ("required", named("look"))
    ]
    assert repeated == [True, False]
    one = constraint(hermes, tool_choice="required", parallel_tool_calls=False)
    assert "(" not in one.source.splitlines()[1]


@pytest.mark.parametrize("choice", ["auto", None])
def test_a_call_that_may_come_is_constrained_when_it_opens(hermes, choice):
    made = constraint(hermes, tool_choice=choice)
    assert made.trigger == "<tool_call>"
    assert not made.once
    assert constraint(hermes, tool_choice=choice, parallel_tool_calls=False).once


def test_without_calls_the_form_alone_counts(hermes):
    assert constraint(hermes, tool_choice="none") is None
    made = constraint(hermes, tool_choice="none", response_format=FORMAT)
    assert json.loads(made.source) == {"type": "object"}


def test_a_form_and_calls_that_may_come_are_either_the_one_or_the_other(hermes):
    assert constraint(hermes, response_format=FORMAT).source.startswith("start: calls | value")
    must = constraint(hermes, response_format=FORMAT, tool_choice="required")
    assert must.source.startswith("start: calls\n")


@pytest.mark.parametrize("form", [{"grammar": 'root ::= "x"'}, {"guided_regex": "x"}])
def test_a_form_that_is_no_json_excludes_calls(hermes, form):
    response = post(hermes, **form)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == next(iter(form))


def test_where_calls_look_like_any_json_a_form_excludes_them(serving):
    live = serving(metadata={"tokenizer.chat_template": BARE})
    assert post(live, response_format=FORMAT).status_code == 400
    assert post(live, response_format=FORMAT, tool_choice="none").status_code == 200


def test_a_tool_whose_schema_cannot_be_followed_is_a_400_only_where_it_must_be_called(hermes):
    hermes.engine.script.unfollowable = "no such type"
    hermes.engine.script.unfollowable_word = "banana"
    odd = {"function": {"name": "odd", "parameters": {"properties": {"a": {"type": "banana"}}}}}
    response = post(hermes, tools=[odd], tool_choice="required")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "tools"
    assert "no such type" in response.json()["error"]["message"]
    made = constraint(hermes, tools=[odd])
    assert "banana" not in made.source
    assert '"odd\\"' in made.source


def test_the_model_may_think_to_the_end_before_its_answer_is_constrained(serving):
    live = serving(metadata={"tokenizer.chat_template": THINKING})
    live.engine.script.pieces = ["hm</think>", CALL]
    for body in ({"tool_choice": "required"}, {"tools": None, "response_format": FORMAT}):
        made = constraint(live, **body)
        assert made.trigger == r"</think>\s*"
        assert made.once


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}])
def test_the_anthropic_dialect_forces_calls_too(hermes, choice):
    tools = [{"name": "look", "input_schema": LOOK}, {"name": "stop"}]
    body = {"tools": tools, "tool_choice": choice, "max_tokens": 9}
    response = post(hermes, "/v1/messages", **body)
    assert response.json()["stop_reason"] == "tool_use"
    made = hermes.engine.requests.pop().constraint
    assert made.trigger is None
    assert ("stop" in made.source) == (choice["type"] == "any")


def test_an_ollama_chat_with_tools_is_constrained_when_a_call_opens(hermes):
    assert post(hermes, "/api/chat", model="m", stream=False).status_code == 200
    assert hermes.engine.requests.pop().constraint.trigger == "<tool_call>"
