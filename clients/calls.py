"""Requests as values: what to send for each route, and how to read the answer.

Pure functions; knows routes and wire types, but nothing that sends. Both clients run these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypedDict, TypeVar

import msgspec

from clients import structured, wire
from clients.errors import ProtocolError, quoted

Answer = TypeVar("Answer")
Chunk = TypeVar("Chunk", bound=wire.ChatChunk | wire.Completion | wire.Infill)
OptionsT = TypeVar("OptionsT", "Options", "ChatOptions")
Messages = str | Sequence[Mapping[str, Any]]


class Options(TypedDict, total=False):
    """Sampling and limits that every generating route takes. `extra` is merged in as it is."""

    model: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stop: Sequence[str]
    frequency_penalty: float
    presence_penalty: float
    extra: Mapping[str, Any]


class ChatOptions(Options, total=False):
    """What chat takes besides."""

    tools: Sequence[Mapping[str, Any]]
    tool_choice: str | Mapping[str, Any]
    response_format: Mapping[str, Any]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request without its address. `path` begins with `/v1/` on the OpenAI routes.

    `is_safe`: sending it twice does no harm and costs little.
    """

    method: str
    path: str
    payload: Mapping[str, Any] | None = None
    is_safe: bool = False


class Call(msgspec.Struct, Generic[Answer], frozen=True, kw_only=True):
    """A request with one answer."""

    request: Request
    decode: Callable[[bytes], Answer]


class StreamCall(msgspec.Struct, Generic[Chunk], frozen=True, kw_only=True):
    """A request answered by events, each of type `chunk_type`."""

    request: Request
    chunk_type: type[Chunk]


def health() -> Call[wire.Health]:
    """Ask whether the server is up."""
    request = Request(method="GET", path="/health")
    return Call(request=request, decode=lambda body: read(body or b"{}", wire.Health))


def models() -> Call[list[wire.Model]]:
    """List what is served."""
    request = Request(method="GET", path="/v1/models", is_safe=True)
    return Call(request=request, decode=lambda body: read(body, wire.ModelList).data)


def props() -> Call[wire.Props]:
    """Ask for the model's properties (llama.cpp's route)."""
    request = Request(method="GET", path="/props", is_safe=True)
    return Call(request=request, decode=lambda body: read(body, wire.Props))


def tokenize(
    content: str, *, add_special: bool = False, parse_special: bool = True
) -> Call[list[int]]:
    """Turn text into token ids."""
    payload = {"content": content, "add_special": add_special, "parse_special": parse_special}
    request = Request(method="POST", path="/tokenize", payload=payload, is_safe=True)
    return Call(request=request, decode=lambda body: read(body, wire.Tokens).tokens)


def detokenize(token_ids: Sequence[int]) -> Call[str]:
    """Turn token ids into text."""
    payload = {"tokens": list(token_ids)}
    request = Request(method="POST", path="/detokenize", payload=payload, is_safe=True)
    return Call(request=request, decode=lambda body: read(body, wire.Text).content)


def apply_template(messages: Messages) -> Call[str]:
    """Render messages with the model's own chat template."""
    payload = {"messages": as_messages(messages)}
    request = Request(method="POST", path="/apply-template", payload=payload, is_safe=True)
    return Call(request=request, decode=lambda body: read(body, wire.Prompt).prompt)


def embeddings(texts: Sequence[str], options: Options) -> Call[list[list[float]]]:
    """Embed texts; the vectors come in the order of the texts."""
    payload = {"input": list(texts), **_flat(options)}
    request = Request(method="POST", path="/v1/embeddings", payload=payload, is_safe=True)
    return Call(request=request, decode=_read_vectors)


def chat(messages: Messages, options: ChatOptions) -> Call[wire.ChatCompletion]:
    """Answer a conversation."""
    request = Request(method="POST", path="/v1/chat/completions", payload=_chat(messages, options))
    return Call(request=request, decode=lambda body: read(body, wire.ChatCompletion))


def chat_as(messages: Messages, answer_type: type[Answer], options: ChatOptions) -> Call[Answer]:
    """Answer a conversation with JSON of a type: a msgspec Struct, a dataclass, a TypedDict."""
    constrained: ChatOptions = {
        **options,
        "response_format": structured.response_format(answer_type),
    }
    request = Request(
        method="POST", path="/v1/chat/completions", payload=_chat(messages, constrained)
    )
    return Call(
        request=request,
        decode=lambda body: structured.parse(read(body, wire.ChatCompletion), answer_type),
    )


def chat_stream(messages: Messages, options: ChatOptions) -> StreamCall[wire.ChatChunk]:
    """Answer a conversation as it is written."""
    payload = _streamed(_chat(messages, options))
    request = Request(method="POST", path="/v1/chat/completions", payload=payload)
    return StreamCall(request=request, chunk_type=wire.ChatChunk)


def complete(prompt: str, suffix: str | None, options: Options) -> Call[wire.Completion]:
    """Continue a prompt, towards `suffix` where one is given."""
    payload = _completion(prompt, suffix, options)
    request = Request(method="POST", path="/v1/completions", payload=payload)
    return Call(request=request, decode=lambda body: read(body, wire.Completion))


def complete_stream(
    prompt: str, suffix: str | None, options: Options
) -> StreamCall[wire.Completion]:
    """Continue a prompt as it is written."""
    payload = _streamed(_completion(prompt, suffix, options))
    request = Request(method="POST", path="/v1/completions", payload=payload)
    return StreamCall(request=request, chunk_type=wire.Completion)


def fim(
    prefix: str, suffix: str, context: Sequence[Mapping[str, str]], options: Options
) -> Call[wire.Infill]:
    """Fill the gap between prefix and suffix. `context`: neighbours, `filename` and `text`."""
    payload = _infill(prefix, suffix, context, options)
    request = Request(method="POST", path="/infill", payload=payload)
    return Call(request=request, decode=lambda body: read(body, wire.Infill))


def fim_stream(
    prefix: str, suffix: str, context: Sequence[Mapping[str, str]], options: Options
) -> StreamCall[wire.Infill]:
    """Fill the gap as it is written."""
    payload = {**_infill(prefix, suffix, context, options), "stream": True}
    request = Request(method="POST", path="/infill", payload=payload)
    return StreamCall(request=request, chunk_type=wire.Infill)


def named(options: OptionsT, model: str | None) -> OptionsT:
    """Let `model` stand in where the options name none."""
    if model is not None:
        options.setdefault("model", model)
    return options


def read(body: bytes | str, answer_type: type[Answer]) -> Answer:
    """Decode one JSON answer.

    Raises:
        ProtocolError: it is not JSON, or not of this form.
    """
    try:
        return msgspec.json.decode(body, type=answer_type)
    except msgspec.DecodeError as error:
        raw = body.encode() if isinstance(body, str) else body
        raise ProtocolError(
            f"the server's answer is not a {answer_type.__name__} ({error}): {quoted(raw)}"
        ) from None


def as_messages(messages: Messages) -> list[Mapping[str, Any]]:
    """Let a bare string stand for one user turn."""
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)


def _chat(messages: Messages, options: ChatOptions) -> dict[str, Any]:
    return {"messages": as_messages(messages), **_flat(options)}


def _completion(prompt: str, suffix: str | None, options: Options) -> dict[str, Any]:
    towards = {} if suffix is None else {"suffix": suffix}
    return {"prompt": prompt, **towards, **_flat(options)}


def _infill(
    prefix: str, suffix: str, context: Sequence[Mapping[str, str]], options: Options
) -> dict[str, Any]:
    fields = _flat(options)
    if "max_tokens" in fields:
        fields["n_predict"] = fields.pop("max_tokens")
    neighbours = {"input_extra": [dict(item) for item in context]} if context else {}
    return {"input_prefix": prefix, "input_suffix": suffix, "prompt": "", **neighbours, **fields}


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what is None, so that the server's defaults hold, and merge `extra`."""
    fields = {name: value for name, value in options.items() if value is not None}
    extra = fields.pop("extra", {})
    return {**fields, **extra}


def _streamed(payload: dict[str, Any]) -> dict[str, Any]:
    return {**payload, "stream": True, "stream_options": {"include_usage": True}}


def _read_vectors(body: bytes) -> list[list[float]]:
    found = read(body, wire.EmbeddingList).data
    return [item.embedding for item in sorted(found, key=lambda item: item.index)]
