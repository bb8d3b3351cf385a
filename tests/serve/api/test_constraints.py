"""The field of every dialect that asks for a form, and what reaches the engine."""

import json

import pytest

from serve.engine.request import Constraint

CHAT = {"messages": [{"role": "user", "content": "x"}]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
CLOSED = SCHEMA | {"additionalProperties": False}
ROUTES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "x"},
    "/completion": {"prompt": "x"},
    "/infill": {"input_prefix": "x", "input_suffix": "y"},
}


def asked(live, path, **more):
    """Return the constraint of the request that reached the engine, compiled before."""
    response = live.http.post(path, json=ROUTES.get(path, CHAT) | more)
    assert response.status_code == 200, response.text
    [request] = live.engine.requests
    live.engine.requests.clear()
    assert request.constraint is None or live.engine.prepared[-1] == request.constraint
    return request.constraint


def schema_of(constraint):
    assert constraint.kind == "json_schema"
    assert constraint.trigger is None
    return json.loads(constraint.source)


@pytest.mark.parametrize("path", ROUTES)
def test_every_dialect_takes_its_fields(live, path):
    assert asked(live, path) is None
    assert schema_of(asked(live, path, json_schema=SCHEMA)) == CLOSED
    grammar = asked(live, path, grammar='root ::= "x"')
    assert grammar == Constraint(kind="gbnf", source='root ::= "x"')
    format_ = {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}
    assert schema_of(asked(live, path, response_format=format_)) == CLOSED


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_the_ollama_format_is_json_or_a_schema(live, path):
    live.engine.script.pieces = ["{}"]
    body = {"model": "m", "prompt": "x", "stream": False} | CHAT
    assert schema_of(asked(live, path, **body, format="json")) == {"type": "object"}
    assert schema_of(asked(live, path, **body, format=SCHEMA)) == CLOSED
    assert asked(live, path, **body, format="") is None


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"response_format": {"type": "json_object"}}, {"type": "object"}),
        ({"response_format": {"type": "json_object", "schema": CLOSED}}, CLOSED),
        ({"response_format": {"type": "json_schema", "schema": CLOSED, "strict": True}}, CLOSED),
        ({"guided_json": SCHEMA}, CLOSED),
        ({"guided_json": json.dumps(SCHEMA)}, CLOSED),
        ({"structured_outputs": {"json": SCHEMA}}, CLOSED),
        ({"structured_outputs": {"json_object": True}}, {"type": "object"}),
    ],
)
def test_a_schema_comes_in_many_wrappings(live, body, wanted):
    assert schema_of(asked(live, "/v1/chat/completions", **body)) == wanted


@pytest.mark.parametrize(
    ("body", "kind", "source"),
    [
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["yes", 'n"o']}, "lark", 'start: "yes" | "n\\"o"'),
        ({"guided_grammar": "root ::= x"}, "gbnf", "root ::= x"),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
        ({"structured_outputs": {"choice": ["yes"]}}, "lark", 'start: "yes"'),
        ({"structured_outputs": {"grammar": "root ::= x"}}, "gbnf", "root ::= x"),
    ],
)
def test_other_forms_are_passed_on_as_they_are(live, body, kind, source):
    constraint = asked(live, "/v1/chat/completions", **body)
    assert (constraint.kind, constraint.source) == (kind, source)


def test_a_schema_that_is_not_strict_may_hold_what_cannot_be_enforced(live):
    loose = {"type": "json_schema", "json_schema": {"schema": SCHEMA}}
    source = schema_of(asked(live, "/v1/chat/completions", response_format=loose))
    assert source == CLOSED | {"x-guidance": {"lenient": True}}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object"}, "grammar": "x"}, "grammar"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"json_schema": [1]}, "json_schema"),
    ],
)
def test_a_form_that_makes_no_sense_is_a_400_naming_the_field(live, body, param):
    response = live.http.post("/v1/chat/completions", json=CHAT | body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
    assert not live.engine.requests


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ROUTES)
def test_a_form_that_cannot_be_kept_is_a_400_with_the_reason(live, path, stream):
    live.engine.script.unfollowable = "minLength (5) is greater than maxLength (2)"
    body = ROUTES[path] | {"json_schema": SCHEMA, "stream": stream}
    response = live.http.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "json_schema"
    assert "minLength (5)" in response.json()["error"]["message"]
    assert not live.engine.requests
