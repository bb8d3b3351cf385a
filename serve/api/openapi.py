"""Publish what the routes take and give as OpenAPI, complete and true.

The framework describes paths and bodies. Types are described here once more, by the library that
decodes and encodes them; to that come what streams are made of (a route's `streams`), each
dialect's error envelope, and the ways to bring a key. Knows no route by name.
"""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

import msgspec
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute

from serve.api.access import OPEN_PATHS
from serve.api.anthropic_schemas import AnthropicError
from serve.api.errors import ErrorEnvelope
from serve.api.ollama_schemas import OllamaError
from serve.api.sse import DONE, EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from litestar import Litestar, Request
    from litestar.handlers import HTTPRouteHandler

    Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_ERRORS = {"/v1/messages": AnthropicError, "/api/": OllamaError}
_KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_STATUSES = {
    400: "The request cannot be honoured as it stands; `param` names the field.",
    401: "No valid API key.",
    403: "Sent by a page of another site.",
    404: "What was named does not exist.",
    413: "The body is too long.",
    429: "Too many requests wait; Retry-After says when to try again.",
    500: "The engine failed on this request.",
    501: "The configuration keeps this route closed.",
    503: "The server cannot answer now; Retry-After says when to try again.",
}


def config(*, has_keys: bool) -> OpenAPIConfig:
    """Return the configuration; the document is at /schema and /schema/openapi.json."""
    return OpenAPIConfig(
        title="edgesmith",
        version="1",
        use_handler_docstrings=True,
        render_plugins=[Publisher(has_keys=has_keys)],
    )


class Publisher(JsonRenderPlugin):
    """Completes the document when it is first asked for."""

    def __init__(self, *, has_keys: bool) -> None:
        super().__init__()
        self._has_keys = has_keys
        self._document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """Return the document."""
        if self._document is None:
            plain = msgspec.to_builtins(openapi_schema, enc_hook=str)
            document = complete(plain, request.app, has_keys=self._has_keys)
            self._document = msgspec.json.encode(document)
        return self._document


def complete(document: Schema, app: Litestar, *, has_keys: bool) -> Schema:
    """Add to the framework's document what it does not know."""
    handlers = list(_handlers(app))
    streamed = [kind for _, each in handlers for kind in each.opt.get("streams", ())[1:]]
    types = {*_bodies(each for _, each in handlers), *streamed, ErrorEnvelope, *_ERRORS.values()}
    _, schemas = msgspec.json.schema_components(
        sorted(types, key=lambda each: each.__name__), ref_template=_REFERENCE
    )
    document["openapi"] = "3.2.0"  # the first that describes the items of a stream
    document["components"] = {"schemas": schemas, "securitySchemes": _KEYS}
    document["paths"] = _any_of(document["paths"])
    for path, handler in handlers:
        for method in handler.http_methods:
            operation = document["paths"][path][method.lower()]
            _complete(operation, path, handler, has_keys=has_keys)
    return document


def _complete(operation: Schema, path: str, handler: HTTPRouteHandler, *, has_keys: bool) -> None:
    needs_key = has_keys and path not in OPEN_PATHS
    operation["security"] = [{name: []} for name in _KEYS] if needs_key else [{}]
    answers = {code: each for code, each in operation["responses"].items() if code == "200"}
    envelope = next((each for start, each in _ERRORS.items() if path.startswith(start)), None)
    error = _reference(envelope or ErrorEnvelope)
    if "streams" in handler.opt:
        media_type, *chunks = handler.opt["streams"]
        items = {"anyOf": [*map(_reference, chunks), error]}
        item = _event(items) if media_type == EVENTS else items
        answers["200"]["content"][media_type] = {"itemSchema": item}
    body = {"application/json": {"schema": error}}
    for status, description in _STATUSES.items():
        answers[str(status)] = {"description": description, "content": body}
    operation["responses"] = answers


def _any_of(node: Any) -> Any:
    """Return the same with every `oneOf` as `anyOf`: a union's members may overlap."""
    if isinstance(node, dict):
        return {("anyOf" if key == "oneOf" else key): _any_of(each) for key, each in node.items()}
    return [_any_of(each) for each in node] if isinstance(node, list) else node


def _handlers(app: Litestar) -> Iterator[tuple[str, HTTPRouteHandler]]:
    """Yield the routes that are published."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.resolve_include_in_schema() and "OPTIONS" not in handler.http_methods:
                    yield route.path_format or "/", handler


def _bodies(handlers: Iterable[HTTPRouteHandler]) -> Iterator[type]:
    """Yield the types that requests and answers are made of."""
    for handler in handlers:
        signature = handler.parsed_fn_signature
        fields = [*signature.parameters.values(), signature.return_type]
        for field in fields:
            yield from _structs(field.annotation)


def _structs(annotation: Any) -> Iterator[type]:
    """Yield the structs that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _structs(inner)


def _event(body: Schema) -> Schema:
    """Describe a server-sent event whose data is JSON, or the mark at the end of a stream."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": body}
    ending = {"const": DONE.decode().removeprefix("data: ").strip()}
    properties = {"event": {"type": "string"}, "data": {"anyOf": [ending, data]}}
    return {"type": "object", "properties": properties, "required": ["data"]}


def _reference(kind: type) -> Schema:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}
