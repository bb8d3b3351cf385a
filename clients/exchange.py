"""Where requests go and what httpx calls things: shared by the sync and the async client.

Builds httpx requests and translates its errors. Sends nothing.
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from clients import DEFAULT_BASE_URL
from clients.errors import (
    ClientError,
    ConnectionLostError,
    TimedOutError,
    UnreachableError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clients.calls import Request
    from clients.policy import Timeout

_VERSION_SUFFIX = re.compile(r"/v\d+$")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A server: `api_url` ends with its version (`/v1`), `root_url` lacks it."""

    api_url: str
    root_url: str
    api_key: str | None = None

    def url(self, path: str) -> str:
        """Return the whole URL of a request's path."""
        if path.startswith("/v1/"):
            return self.api_url + path.removeprefix("/v1")
        return self.root_url + path


class Journey:
    """What httpx reports about one sending of a request, as its `trace` extension.

    A server may close a connection that it kept open, at the moment when the next request goes out
    on it. Then nothing was answered, and the request belongs on another connection.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def see(self, event: str, _: Mapping[str, Any]) -> None:
        """Note an event. Source: httpcore's documentation of the trace extension."""
        self._seen.add(event)

    async def see_async(self, event: str, info: Mapping[str, Any]) -> None:
        """Note an event, for the asynchronous client."""
        self.see(event, info)

    def ended_on_a_stale_connection(self, error: httpx.HTTPError) -> bool:
        """Say whether the request met a kept connection that was closed before any answer."""
        return (
            isinstance(error, (httpx.RemoteProtocolError, httpx.NetworkError))
            and "http11.send_request_headers.started" in self._seen
            and "connection.connect_tcp.started" not in self._seen
            and "http11.receive_response_headers.complete" not in self._seen
        )


def address(base_url: str, api_key: str | None = None) -> Address:
    """Read a base URL, with or without `/v1`.

    Raises:
        UsageError: it is not an http address, or the key cannot be sent.
    """
    try:
        parsed = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise UsageError(f"base URL {base_url!r}: {error}; expected {DEFAULT_BASE_URL}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise UsageError(
            f"base URL {base_url!r} is not an http address; expected something like "
            f"{DEFAULT_BASE_URL}"
        )
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise UsageError("the API key holds characters that an HTTP header cannot carry")
    api_url = base_url.rstrip("/")
    if parsed.path.strip("/") == "":
        api_url += "/v1"
    return Address(api_url=api_url, root_url=_VERSION_SUFFIX.sub("", api_url), api_key=api_key)


def headers(where: Address) -> dict[str, str]:
    """Return what every request carries."""
    try:
        version = metadata.version("edgesmith")
    except metadata.PackageNotFoundError:
        version = "source"
    common = {"User-Agent": f"edgesmith/{version}", "Content-Type": "application/json"}
    return common | ({"Authorization": f"Bearer {where.api_key}"} if where.api_key else {})


def to_httpx(request: Request, where: Address, timeout: Timeout) -> httpx.Request:
    """Build the request that goes out."""
    payload = request.payload
    return httpx.Request(
        request.method,
        where.url(request.path),
        headers=headers(where),
        content=None if payload is None else msgspec.json.encode(payload),
        extensions={
            "timeout": {
                "connect": timeout.connect_seconds,
                "read": timeout.read_seconds,
                "write": timeout.write_seconds,
                "pool": None,
            }
        },
    )


def failure_of(error: httpx.HTTPError, request: httpx.Request) -> ClientError:
    """Return our error for one of httpx."""
    url = str(request.url)
    reason = str(error) or type(error).__name__
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)):
        return UnreachableError(url, reason)
    if isinstance(error, httpx.TimeoutException):
        seconds = request.extensions["timeout"]["read"]
        return TimedOutError(
            f"{url} sent nothing for {seconds:g} s; the prompt may be long for this machine: "
            "allow more time or send less"
        )
    return ConnectionLostError(f"the connection to {url} broke: {reason}")
