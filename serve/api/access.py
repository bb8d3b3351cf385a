"""Who may ask: API keys, the pages a browser may ask for, request ids. All before a body is read.

Knows nothing of what is asked.
"""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, cast
from urllib.parse import urlsplit

from litestar import Request
from litestar.config.cors import CORSConfig
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.middleware import DefineMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.errors import AccessError, ForeignPageError
from serve.config import Settings
from serve.listen import is_loopback

OPEN_PATHS = frozenset({"/", "/health", "/v1/health"})
CACHE_SCOPE: ContextVar[str] = ContextVar("cache_scope", default="")
"""Whose prefixes a request may find in the cache: the API key it brought."""
REQUEST_ID_HEADER = "X-Request-Id"
_REQUEST_ID_LENGTH = 128


def checks(settings: Settings, api_keys: Sequence[str]) -> list[DefineMiddleware]:
    """Return the middleware that every request passes, in order."""
    pages = DefineMiddleware(PageCheck, settings=settings, has_keys=bool(api_keys))
    return [pages, DefineMiddleware(KeyCheck, keys=tuple(api_keys))] if api_keys else [pages]


def cors(settings: Settings) -> CORSConfig | None:
    """Return the answer to browsers' preflights; None while no page but our own may ask."""
    origins = list(settings.access.cors_origins)
    if not origins:
        return None
    return CORSConfig(allow_origins=origins, expose_headers=[REQUEST_ID_HEADER])


class PageCheck:
    """Middleware that refuses what a browser sends on behalf of another site's page.

    A page whose own name was made to resolve to this machine (DNS rebinding) gives itself away by
    `Host`; a page that posts across sites by `Origin`. Programs send no `Origin`.
    """

    def __init__(self, app: ASGIApp, settings: Settings, *, has_keys: bool) -> None:
        self._app = app
        self._cors = cors(settings)
        configured = settings.access.allowed_hosts
        self._is_public = not is_loopback(settings.server.host)
        own = {settings.server.host, socket.gethostname()} if self._is_public else set()
        self._names = {_name(each) for each in (*own, *configured)} - {""}
        # On a public address a key is proof enough: a rebound page has none.
        self._any_host = "*" in configured or (self._is_public and has_keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then hand on.

        Raises:
            ForeignPageError: the name or the page is not one of ours.
        """
        if scope["type"] == ScopeType.HTTP:
            headers = Request(scope, receive, send).headers
            self._check_host(headers.get("host", ""))
            self._check_origin(headers.get("origin", ""), headers.get("host", ""))
        await self._app(scope, receive, send)

    def _check_host(self, host: str) -> None:
        """Browsers always send a Host; who sends none is no browser."""
        if host and not self._any_host and not self._is_own(_name(host)):
            raise ForeignPageError(
                f"{host!r} is no name of this server; if it should be, start the server with "
                f"--set 'access.allowed_hosts=[\"{_name(host)}\"]'"
            )

    def _is_own(self, name: str) -> bool:
        return name in self._names or is_loopback(name) or (self._is_public and _is_address(name))

    def _check_origin(self, origin: str, host: str) -> None:
        if not origin or origin.lower().partition("://")[2] == host.lower() != "":
            return
        if self._cors is None or not self._cors.is_origin_allowed(origin):
            raise ForeignPageError(
                f"pages of {origin!r} may not ask this server; if they should, start it with "
                f"--set 'access.cors_origins=[\"{origin}\"]'"
            )


def _name(host: str) -> str:
    """Return a Host header without its port; what cannot be read is a name of nobody."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    """Return whether it is an IP address: those need no DNS, so they cannot be rebound."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


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
            key = self._check(Request(scope, receive, send))
            CACHE_SCOPE.set(key)
        await self._app(scope, receive, send)

    def _check(self, request: Request[Any, Any, Any]) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        given = (bearer or request.headers.get("x-api-key", "")).encode()
        known = [hmac.compare_digest(given, key) for key in self._keys]  # all: in constant time
        if not any(known):
            raise AccessError(
                "send an API key of this server as `Authorization: Bearer KEY` or `x-api-key: KEY`"
            )
        return given.decode()


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
