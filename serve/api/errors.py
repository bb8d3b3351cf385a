"""Every failure as a status and one envelope: `{"error": {message, type, param, code}}`.

ApiError                    a status, a code and perhaps a parameter name
├── InvalidRequestError     400, the request cannot be honoured as it stands
├── ModelNotFoundError      404, no such model
├── ResponseNotFoundError   404, no such response is stored
├── AccessError             401, no valid API key
├── ForeignPageError        403, sent by a browser on behalf of another site
├── SwitchedOffError        501, the configuration keeps this route closed
├── GenerationFailedError   500, the engine gave up on this request
└── ClientGoneError         499, nobody is left to read an answer

`describe` is the one way from a domain error to HTTP; streams use it for in-stream events.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from serve.chat.errors import ChatError
from serve.engine.errors import (
    ContextTooLargeError,
    EngineClosedError,
    EngineError,
    InputTooLongError,
    InvalidConstraintError,
    InvalidSamplingError,
    ModelsBusyError,
    ModelTooLargeError,
    PromptTooLongError,
    QueueFullError,
    UnknownAdapterError,
)


class ApiError(Exception):
    """Everything the api room raises on purpose."""

    status = 500
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        self.param = param
        self.code = code or self.code
        super().__init__(message)


class InvalidRequestError(ApiError):
    """The request asks for something that is wrong or that this server does not do."""

    status = 400


class ModelNotFoundError(ApiError):
    """The model asked for is not served."""

    status = 404
    code = "model_not_found"


class ResponseNotFoundError(ApiError):
    """The response asked for is not stored for this key."""

    status = 404
    code = "response_not_found"


class AccessError(ApiError):
    """The API key is missing or unknown."""

    status = 401
    code = "invalid_api_key"


class ForeignPageError(ApiError):
    """A web page of another site made a browser send this."""

    status = 403
    code = "foreign_page"


class SwitchedOffError(ApiError):
    """The configuration says that this is not shown."""

    status = 501
    code = "switched_off"

    def __init__(self, setting: str) -> None:
        super().__init__(f"this server does not show this; start it with --set {setting}=true")


class GenerationFailedError(ApiError):
    """The engine reported an error or was stopped before the answer was complete."""

    code = "generation_failed"


class ClientGoneError(ApiError):
    """The client closed the connection; the status is for the log only."""

    status = 499
    code = "client_closed_request"


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """The `error` object. The two counts are set when the context overflows."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None
    n_prompt_tokens: int | msgspec.UnsetType = msgspec.UNSET
    n_ctx: int | msgspec.UnsetType = msgspec.UNSET


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """What a client gets instead of an answer."""

    error: ErrorBody


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A status, the body and extra headers."""

    status: int
    body: ErrorBody
    headers: Mapping[str, str] = {}


def describe(error: Exception) -> Failure:
    """Translate any exception; an unforeseen one says no more than its type."""
    match error:
        case ApiError():
            return _failure(error.status, str(error), param=error.param, code=error.code)
        case EngineError():
            return _engine_failure(error)
        case ChatError():
            return _failure(400, str(error), param=getattr(error, "param", None))
        case HTTPException():
            return _http_failure(error)
        case RecursionError():
            return _failure(400, "the request is nested too deeply; send it flatter")
    return _failure(500, f"the server failed on this request: {type(error).__name__}")


def handle(request: Request[Any, Any, Any], error: Exception) -> Response[ErrorEnvelope]:
    """Litestar's exception handler for everything."""
    failure = describe(error)
    if failure.status >= 500 and not isinstance(error, SwitchedOffError):
        request.app.state.log_error(request, error)
    return Response(
        ErrorEnvelope(error=failure.body),
        status_code=failure.status,
        headers=dict(failure.headers),
        media_type="application/json",
    )


_NO_BODY = "'data'"  # Litestar's text when a body is missing

HANDLERS: dict[int | type[Exception], Callable[..., Response[Any]]] = {
    Exception: handle,
    HTTPException: handle,
}


_ENGINE_FAILURES: dict[type[EngineError], tuple[int, str | None, str | None]] = {
    PromptTooLongError: (400, "context_length_exceeded", None),
    InputTooLongError: (400, "context_length_exceeded", "input"),
    QueueFullError: (429, "queue_full", None),
    ModelsBusyError: (503, "models_busy", None),
    ModelTooLargeError: (400, "model_too_large", "model"),
    ContextTooLargeError: (400, "model_too_large", "model"),
    UnknownAdapterError: (400, None, "lora"),
    InvalidConstraintError: (400, None, None),
    EngineClosedError: (503, "shutting_down", None),
}
"""Status, code and parameter; whatever is not listed is a 500."""


def _engine_failure(error: EngineError) -> Failure:
    status, code, param = _ENGINE_FAILURES.get(type(error), (500, "engine_error", None))
    if isinstance(error, InvalidSamplingError):
        status, code, param = 400, None, error.param
    seconds = getattr(error, "retry_after_seconds", None)
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    failure = _failure(status, str(error), param=param, code=code, headers=headers)
    if isinstance(error, PromptTooLongError | InputTooLongError):
        counts = {"n_prompt_tokens": error.num_prompt_tokens, "n_ctx": error.context_length}
        # OpenAI's clients know the code, llama.cpp's the type.
        body = msgspec.structs.replace(failure.body, type="exceed_context_size_error", **counts)
        return msgspec.structs.replace(failure, body=body)
    return failure


def _http_failure(error: HTTPException) -> Failure:
    message = error.detail
    if isinstance(error, ValidationException):
        return _validation_failure(error)
    if error.status_code in {404, 405}:
        message += "; /schema lists the routes and methods of this server"
    if error.status_code == 413:
        message = "the body is longer than this server takes; limits.body_bytes says how long"
    return _failure(error.status_code, message, headers=error.headers)


def _validation_failure(error: ValidationException) -> Failure:
    """Name the first field that is wrong: clients show one line."""
    details = error.extra if isinstance(error.extra, list) else []
    first = details[0] if details and isinstance(details[0], dict) else {}
    param = str(first.get("key", "")).removeprefix("data").lstrip(".") or None
    message = str(first.get("message") or error.detail)
    if message == _NO_BODY:
        message = "the request has no body; send a JSON object"
    return _failure(400, f"{param}: {message}" if param else message, param=param)


def _failure(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Failure:
    body = ErrorBody(message=message, type=_kind(status), param=param, code=code)
    return Failure(status=status, body=body, headers=headers or {})


def _kind(status: int) -> str:
    """Return OpenAI's name for the class of error."""
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    return kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
