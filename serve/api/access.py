"""API keys and request ids, both before a body is read.

Knows nothing of what is asked.
"""

import hmac
import secrets
from collections.abc import Sequence
from typing import Any, cast

from litestar import Request
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import AccessError

OPEN_PATHS = frozenset({"/health", "/v1/health"})
REQUEST_ID_HEADER = "X-Request-Id"
_REQUEST_ID_LENGTH = 128


class KeyCheck:
    """Middleware that lets a request pass when it brings one of the keys."""

    def __init__(self, app: ASGIApp, keys: Sequence[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then hand on.

        Raises:
            AccessError: no key, or a wrong one.
        """
        if scope["type"] == ScopeType.HTTP and scope["path"] not in OPEN_PATHS:
            self._check(Request(scope, receive, send))
        await self._app(scope, receive, send)

    def _check(self, request: Request[Any, Any, Any]) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        given = (bearer or request.headers.get("x-api-key", "")).encode()
        known = [hmac.compare_digest(given, key) for key in self._keys]  # all: in constant time
        if not any(known):
            raise AccessError(
                "send an API key of this server as `Authorization: Bearer KEY` or `x-api-key: KEY`"
            )


def request_id(scope: Scope) -> str:
    """Return the client's id for this request where it is printable, else a new one, once."""
    state = scope["state"]
    if "request_id" not in state:
        given = Request(scope).headers.get(REQUEST_ID_HEADER, "")
        usable = given.isascii() and given.isprintable() and 0 < len(given) <= _REQUEST_ID_LENGTH
        state["request_id"] = given if usable else f"req-{secrets.token_hex(12)}"
    return cast("str", state["request_id"])


async def add_request_id(message: Message, scope: Scope) -> None:
    """Name every response, errors included; a `before_send` hook."""
    if message["type"] == "http.response.start":
        MutableScopeHeaders(message)[REQUEST_ID_HEADER] = request_id(scope)
