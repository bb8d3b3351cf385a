"""What can be compiled, what is refused and why, and that nothing is compiled twice."""

import json
import threading

import pytest

from serve.engine.constraints import MAX_PREPARED, MAX_SOURCE_CHARS, Constraints
from serve.engine.errors import EngineClosedError, InvalidConstraintError
from serve.engine.request import Constraint


def takes(constraints, kind, source, text):
    """Say whether the whole text follows the source."""
    state = constraints.start(Constraint(kind=kind, source=source))
    token_ids = list(text.encode())
    if state.allowed_prefix(token_ids) < len(token_ids):
        return False
    for token_id in token_ids:
        state.accept(token_id, bytes([token_id]))
    return state.is_over or state.allows(0)


PERSON = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize(
    ("kind", "source", "good", "bad"),
    [
        ("json_schema", PERSON, '{"name": "A", "age": 3}', '{"name": "A"}'),
        ("json_schema", PERSON, '{\n  "name": "A",\n  "age": 3\n}', '{"age": 3, "name": "A"}'),
        ("json_schema", '{"type":"object"}', '{"a": [1, {"b": null}]}', "[1]"),
        ("regex", "(yes|no)[0-9]{2}", "yes42", "yes4"),
        ("lark", 'start: "a" B\nB: /[0-9]+/', "a12", "b12"),
        ("gbnf", 'root ::= "a" [^0-9]* tail\ntail ::= "!" | "?"', "axyz!", "a1!"),
        ("gbnf", r'root ::= "\u0041\u00e9" [\u0061-\u0063]+', "Aébca", "Aéd"),
        ("gbnf", r'root ::= "\\u0041"', "\\u0041", "A"),
        ("gbnf", '%llguidance {}\nstart: "x"', "x", "y"),
    ],
)
def test_each_kind_takes_what_follows_it_and_nothing_else(constraints, kind, source, good, bad):
    assert takes(constraints, kind, source, good)
    assert not takes(constraints, kind, source, bad)


def test_blanks_between_values_have_an_end(constraints):
    assert not takes(constraints, "json_schema", PERSON, '{  "name": "A", "age": 3}')
    assert not takes(constraints, "json_schema", PERSON, '{\n\n"name": "A", "age": 3}')


@pytest.mark.parametrize(
    ("kind", "source", "reason"),
    [
        ("json_schema", '{"type":"string","minLength":5,"maxLength":2}', "minLength (5)"),
        ("json_schema", '{"type":"integer","minimum":5,"maximum":4}', "minimum (5)"),
        ("json_schema", '{"type":"array","uniqueItems":true}', "uniqueItems"),
        ("json_schema", '{"type":"banana"}', "banana"),
        ("json_schema", '{"$ref":"#/$defs/missing"}', "missing"),
        ("json_schema", '{"$ref":"http://example.org/x"}', "does not fetch"),
        ("json_schema", "false", "must be an object"),
        ("json_schema", "{", "not JSON"),
        ("json_schema", '{"items":' * 3000 + "{}" + "}" * 3000, "recursion"),
        ("regex", "(open", "unclosed group"),
        ("regex", "(?=a)b", "look-around"),
        ("lark", "start: missing", "unknown name"),
        ("gbnf", 'root ::= "a" missing', "'missing' not found"),
        ("gbnf", "no grammar at all", "not GBNF"),
        ("gbnf", "root ::= root", "no way to an end"),
        ("json_schema", '{"$ref":"#"}', "no way to an end"),
        ("gbnf", r'root ::= "\UFFFFFFFF"', "no character"),
        ("regex", "a" * (MAX_SOURCE_CHARS + 1), "the limit is"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_the_reason(constraints, kind, source, reason):
    with pytest.raises(InvalidConstraintError) as caught:
        constraints.prepare(Constraint(kind=kind, source=source))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_constraint_is_compiled_once_and_the_oldest_are_forgotten(constraints):
    tokenizer = constraints.start(Constraint(kind="regex", source="a"))._tokenizer
    own = Constraints(lambda: tokenizer)
    compiled, compile_ = [], own._compile

    def counted(constraint):
        compiled.append(constraint.source)
        return compile_(constraint)

    own._compile = counted
    for _ in range(3):
        own.start(Constraint(kind="regex", source="first"))
    assert compiled == ["first"]
    for number in range(MAX_PREPARED):
        own.prepare(Constraint(kind="regex", source=f"later{number}"))
    assert len(own._matchers) == MAX_PREPARED
    own.prepare(Constraint(kind="regex", source="first"))
    assert compiled.count("first") == 2


def test_an_answer_starts_while_another_constraint_is_compiled(constraints):
    tokenizer = constraints.start(Constraint(kind="regex", source="a"))._tokenizer
    own = Constraints(lambda: tokenizer)
    own.prepare(Constraint(kind="regex", source="quick"))
    began, may_end = threading.Event(), threading.Event()
    compile_ = own._compile

    def slow(constraint):
        began.set()
        assert may_end.wait(10)
        return compile_(constraint)

    own._compile = slow
    thread = threading.Thread(target=own.prepare, args=(Constraint(kind="regex", source="slow"),))
    thread.start()
    assert began.wait(10)
    assert own.start(Constraint(kind="regex", source="quick")).is_held
    may_end.set()
    thread.join(10)


def test_nothing_is_compiled_after_the_end(constraints):
    tokenizer = constraints.start(Constraint(kind="regex", source="a"))._tokenizer
    own = Constraints(lambda: tokenizer)
    own.prepare(Constraint(kind="regex", source="a"))
    own.close()
    with pytest.raises(EngineClosedError):
        own.start(Constraint(kind="regex", source="a"))
