"""Errors of the client.

ClientError
├── UsageError              a flag, file or value of the caller is wrong
├── UnreachableError        no connection: which URL, and what to start
├── TimedOutError           connected, but the server stayed silent past the limit
├── ConnectionLostError     the connection broke before the answer was complete
├── ProtocolError           the answer is not what the route promises
└── ServerError             the server answered with an error: status, code, request_id
    ├── BadRequestError         400, 413, 422
    │   └── ContextLengthError  the prompt does not fit: both numbers, where the server gave them
    ├── AuthenticationError     401, 403
    ├── NotFoundError           404, 405, 501: no such route or model
    ├── OverloadedError         429, 503: retry_after_seconds, where the server gave it
    └── InternalServerError     every other status

Knows the error bodies of several servers, but neither httpx nor retries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_QUOTED_CHARS = 300


class ClientError(Exception):
    """Everything the client raises on purpose."""


class UsageError(ClientError):
    """The caller asked for something that cannot be; the message has the remedy."""


class UnreachableError(ClientError):
    """Nothing listens at the URL, or its name does not resolve."""

    def __init__(self, url: str, reason: str) -> None:
        """Keep the URL: it is the first thing to check."""
        self.url = url
        super().__init__(
            f"cannot reach {url} ({reason}); start a server (python -m serve) "
            "or give its address with --base-url"
        )


class TimedOutError(ClientError):
    """The server was silent for longer than the timeout."""


class ConnectionLostError(ClientError):
    """The answer stopped half-way; what had arrived is incomplete."""


class ProtocolError(ClientError):
    """The answer cannot be read; the message quotes its beginning."""


class ServerError(ClientError):
    """The server refused or failed a request.

    `code` and `type` are the server's own words, `request_id` its `x-request-id`.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        type: str | None = None,  # noqa: A002  # the field's name on the wire
        param: str | None = None,
        request_id: str | None = None,
    ) -> None:
        """`status` 0 marks an error that arrived inside a stream that began with 200."""
        self.message = message
        self.status = status
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id
        where = f"HTTP {status}" if status else "in the stream"
        marks = ", ".join(
            mark for mark in (where, code, request_id and f"request {request_id}") if mark
        )
        super().__init__(f"{message} ({marks})")


class BadRequestError(ServerError):
    """The request is wrong; sending it again will not help."""


class ContextLengthError(BadRequestError):
    """The prompt does not fit the context."""

    num_prompt_tokens: int | None = None
    context_length: int | None = None


class AuthenticationError(ServerError):
    """The key is missing or wrong."""


class NotFoundError(ServerError):
    """The server has no such route or model."""


class OverloadedError(ServerError):
    """The server is busy or still loading."""

    retry_after_seconds: float | None = None


class InternalServerError(ServerError):
    """The server failed."""


_BY_STATUS: dict[int, type[ServerError]] = {
    400: BadRequestError,
    413: BadRequestError,
    422: BadRequestError,
    401: AuthenticationError,
    403: AuthenticationError,
    404: NotFoundError,
    405: NotFoundError,
    501: NotFoundError,
    429: OverloadedError,
    503: OverloadedError,
}
_CONTEXT_MARKS = {"context_length_exceeded", "exceed_context_size_error"}


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
    """Return the error that an answer with an error status stands for."""
    fields = _error_fields(body)
    error = from_fields(fields, status=status, request_id=headers.get("x-request-id"))
    if isinstance(error, OverloadedError):
        error.retry_after_seconds = _seconds(headers.get("retry-after"))
    return error


def from_fields(
    fields: Mapping[str, Any], *, status: int, request_id: str | None = None
) -> ServerError:
    """Return the error of an error object, also of one that arrived inside a stream."""
    code = _text(fields.get("code"))
    kind = _text(fields.get("type"))
    numeric = int(code) if code and code.isdigit() else 0
    error_type = _BY_STATUS.get(status or numeric, InternalServerError)
    if {code, kind} & _CONTEXT_MARKS:
        error_type = ContextLengthError
    error = error_type(
        _text(fields.get("message")) or "the server gave no reason",
        status=status,
        code=code if not numeric else kind,
        type=kind,
        param=_text(fields.get("param")),
        request_id=request_id,
    )
    if isinstance(error, ContextLengthError):
        error.num_prompt_tokens = _count(fields.get("n_prompt_tokens"))
        error.context_length = _count(fields.get("n_ctx"))
    return error


def quoted(body: bytes) -> str:
    """Return the beginning of a body on one line, for a message."""
    text = " ".join(body[: 4 * MAX_QUOTED_CHARS].decode("utf-8", "replace").split())
    return text if len(text) <= MAX_QUOTED_CHARS else text[:MAX_QUOTED_CHARS] + "…"


def _error_fields(body: bytes) -> Mapping[str, Any]:
    """Find the error object: OpenAI nests it, Ollama sends a string, FastAPI calls it detail."""
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {"message": quoted(body)}
    if not isinstance(document, dict):
        return {"message": quoted(body)}
    found = document.get("error", document.get("detail", document))
    if isinstance(found, dict):
        return found if found.get("message") else {**found, "message": quoted(body)}
    return {"message": found if isinstance(found, str) else quoted(body)}


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _seconds(value: str | None) -> float | None:
    """Read a Retry-After in seconds; dates are not worth waiting for here."""
    try:
        return max(0.0, float(value)) if value else None
    except ValueError:
        return None
