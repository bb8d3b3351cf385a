"""Ollama's dialect as types. Fields a client sends beyond these are ignored.

Durations are in nanoseconds, times are RFC 3339.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.chat_schemas import LogprobEntry
from serve.api.sampling import Sampling


class OllamaOptions(Sampling, kw_only=True):
    """How to generate. What a client sends about loading (`num_gpu`, `num_thread`) is ignored.

    `num_ctx` is taken and changes nothing: a prompt beyond this server's own context is refused
    with both numbers and never cut, whatever was asked for. `num_predict` below 0 means until the
    context is full.
    """

    num_ctx: int | None = None
    num_predict: int | None = None
    stop: str | list[str] | None = None


class OllamaRequest(msgspec.Struct, kw_only=True):
    """What chat and generate share. A stream is the default.

    `keep_alive` is how long the model stays in memory afterwards, where there are several: seconds,
    or text such as "5m"; 0 lets it go at once, below 0 keeps it.
    """

    model: str = ""
    stream: bool | None = None
    options: OllamaOptions | None = None
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None
    keep_alive: str | float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


class OllamaMessage(msgspec.Struct, kw_only=True):
    """One turn."""

    role: str
    content: str | None = None
    images: list[Any] | None = None
    thinking: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class OllamaChatRequest(OllamaRequest, kw_only=True):
    """A conversation; one without messages asks whether the model is loaded."""

    messages: list[OllamaMessage] | None = None
    tools: list[dict[str, Any]] | None = None


class OllamaGenerateRequest(OllamaRequest, kw_only=True):
    """A prompt; an empty one asks whether the model is loaded.

    With a `suffix` the text between the two is written. Otherwise the prompt is one user turn of
    the chat template, or, with `raw` or for a model without a template, read as it stands.
    """

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    raw: bool | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[Any] | None = None


class OllamaPiece(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a stream, or a whole answer. The figures come with the last one."""

    model: str
    created_at: str
    done: bool
    done_reason: str | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET
    logprobs: list[LogprobEntry] | UnsetType = UNSET


class OllamaCalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """The call's number within the answer, the tool's name, and its arguments as an object."""

    index: int
    name: str
    arguments: dict[str, Any]


class OllamaToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """What the model wants called."""

    id: str
    function: OllamaCalledFunction


class OllamaTurn(msgspec.Struct, frozen=True, kw_only=True):
    """The assistant's turn, or a piece of it."""

    content: str
    role: Literal["assistant"] = "assistant"
    thinking: str | UnsetType = UNSET
    tool_calls: list[OllamaToolCall] | UnsetType = UNSET


class OllamaChatPiece(OllamaPiece, frozen=True, kw_only=True):
    """Of a chat."""

    message: OllamaTurn


class OllamaTextPiece(OllamaPiece, frozen=True, kw_only=True):
    """Of a generation."""

    response: str
    thinking: str | UnsetType = UNSET


class OllamaError(msgspec.Struct, frozen=True):
    """What a client gets instead of an answer, also as the last line of a stream that failed."""

    error: str
