"""From what a request asks of its answer's form to one constraint of the engine, compiled.

Knows the fields of all dialects and no route. A form that cannot be kept is refused here, before
any header: a client relies on it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from serve.api.errors import InvalidRequestError
from serve.chat.schema import follow
from serve.chat.tools.call_grammar import literal
from serve.engine.errors import InvalidConstraintError
from serve.engine.request import Constraint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve.api.constraint_schemas import Constrained, ResponseFormat, StructuredOutputs
    from serve.api.served import Served

ANY_OBJECT: dict[str, Any] = {"type": "object"}


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for in the field `param`. `schema` is None for what is no JSON."""

    param: str
    constraint: Constraint
    schema: Mapping[str, Any] | None = None
    strict: bool = True


async def constrain(served: Served, data: Constrained) -> Constraint | None:
    """Return the constraint of a request without tools, None when any text will do.

    Raises:
        InvalidRequestError: two forms, or one that cannot be kept, with the reason.
    """
    form = form_of(data)
    return None if form is None else await compiled(served, form.constraint, form.param)


async def compiled(served: Served, constraint: Constraint, param: str) -> Constraint:
    """Compile away from the event loop, and return the constraint.

    Raises:
        InvalidRequestError: it cannot be followed; the reason is that of the compiler.
    """
    try:
        await asyncio.to_thread(served.engine.prepare, constraint)
    except InvalidConstraintError as error:
        raise InvalidRequestError(f"{param} cannot be followed: {error}", param=param) from error
    return constraint


def form_of(data: Constrained) -> Form | None:
    """Return the form a request asks for, None when it asks for none.

    Raises:
        InvalidRequestError: more than one, or one that is incomplete or unknown.
    """
    forms = [
        *_from_format(data.response_format, "response_format"),
        *_from_json(data.json_schema, "json_schema"),
        *_from_text("gbnf", data.grammar, "grammar"),
        *_from_structured(data.structured_outputs),
        *_from_json(data.guided_json, "guided_json"),
        *_from_text("regex", data.guided_regex, "guided_regex"),
        *_from_choice(data.guided_choice, "guided_choice"),
        *_from_text("gbnf", data.guided_grammar, "guided_grammar"),
    ]
    if len(forms) > 1:
        names = " and ".join(form.param for form in forms)
        raise InvalidRequestError(
            f"{names} were sent; an answer follows one of them", param=forms[1].param
        )
    return forms[0] if forms else None


def from_schema(schema: Mapping[str, Any], param: str, *, strict: bool = True) -> Form:
    """Return the form of one JSON value of this schema."""
    constraint = follow(schema, strict=strict)
    return Form(param=param, constraint=constraint, schema=schema, strict=strict)


def _from_format(chosen: ResponseFormat | None, param: str) -> list[Form]:
    match chosen.type if chosen else "text":
        case "text":
            return []
        case "json_object":
            return [from_schema((chosen and chosen.schema) or ANY_OBJECT, param)]
        case "json_schema":
            assert chosen is not None  # its type was just read
            return [_from_wrapped(chosen, param)]
        case unknown:
            raise InvalidRequestError(
                f"{param}.type is {unknown!r}; it must be 'text', 'json_object' or 'json_schema'",
                param=f"{param}.type",
            )


def _from_wrapped(chosen: ResponseFormat, param: str) -> Form:
    outer = chosen.json_schema or {}
    schema = outer.get("schema", chosen.schema)
    if not isinstance(schema, dict):
        where = f"{param}.json_schema.schema"
        raise InvalidRequestError(f"{where} is missing; it must be an object", param=where)
    return from_schema(schema, param, strict=bool(outer.get("strict", chosen.strict)))


def _from_structured(chosen: StructuredOutputs | None) -> list[Form]:
    if chosen is None:
        return []
    param = "structured_outputs"
    return [
        *_from_json(chosen.json, f"{param}.json"),
        *_from_text("regex", chosen.regex, f"{param}.regex"),
        *_from_choice(chosen.choice, f"{param}.choice"),
        *_from_text("gbnf", chosen.grammar, f"{param}.grammar"),
        *([from_schema(ANY_OBJECT, f"{param}.json_object")] if chosen.json_object else []),
    ]


def _from_json(schema: dict[str, Any] | str | None, param: str) -> list[Form]:
    """Take a schema, as an object or as its text; an empty one is any JSON value."""
    if schema is None:
        return []
    if isinstance(schema, str):
        try:
            schema = msgspec.json.decode(schema, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidRequestError(f"{param} is no JSON object: {error}", param=param) from error
    return [from_schema(schema, param)]


def _from_text(kind: Any, source: str | None, param: str) -> list[Form]:
    """Take a regex or a grammar; an empty one is what some clients send for none."""
    return [Form(param=param, constraint=Constraint(kind=kind, source=source))] if source else []


def _from_choice(choice: Sequence[str] | None, param: str) -> list[Form]:
    if choice is None:
        return []
    if not choice or not all(choice):
        raise InvalidRequestError(f"{param} must hold texts that are not empty", param=param)
    source = f"start: {' | '.join(map(literal, choice))}"
    return [Form(param=param, constraint=Constraint(kind="lark", source=source))]
