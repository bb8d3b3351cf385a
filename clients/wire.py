"""What servers send: typed, and tolerant of what other servers add, leave out or set to null.

Fields are the wire's own names. Knows no HTTP and no request.
"""

from __future__ import annotations

from typing import Any

import msgspec


class TokenDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Parts of a token count."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts of one request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: TokenDetails | None = None
    completion_tokens_details: TokenDetails | None = None

    @property
    def cached_tokens(self) -> int:
        """Prompt tokens that the server did not read again; 0 where it does not say."""
        details = self.prompt_tokens_details
        return (details.cached_tokens if details else None) or 0


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server's time went, as llama.cpp reports it."""

    prompt_n: int | None = None
    prompt_ms: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None
    prompt_per_second: float | None = None
    predicted_per_second: float | None = None


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """What the model wants called. `arguments` is JSON text, in a stream a part of it."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """One tool call, or in a stream a part of the one at `index`."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An assistant turn, or in a stream what was added to it."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer of a chat completion."""

    index: int = 0
    message: Message = Message()
    finish_reason: str | None = None
    logprobs: Any = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/v1/chat/completions`."""

    choices: list[ChatChoice]
    id: str | None = None
    model: str | None = None
    created: float | None = None
    usage: Usage | None = None
    timings: Timings | None = None

    @property
    def text(self) -> str:
        """The first answer's text."""
        return (self.choices[0].message.content or "") if self.choices else ""

    @property
    def finish_reason(self) -> str | None:
        """Why the first answer ended."""
        return self.choices[0].finish_reason if self.choices else None


class ChatChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What one event adds to one answer."""

    index: int = 0
    delta: Message | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a chat stream. The last one may have no choices, only usage."""

    choices: list[ChatChunkChoice] = []
    id: str | None = None
    model: str | None = None
    created: float | None = None
    usage: Usage | None = None
    timings: Timings | None = None

    @property
    def text(self) -> str:
        """What this event adds to the first answer."""
        return "".join(
            choice.delta.content or ""
            for choice in self.choices
            if choice.index == 0 and choice.delta
        )

    @property
    def finish_reason(self) -> str | None:
        """Why the first answer ended, in the event that ends it."""
        return next((c.finish_reason for c in self.choices if c.index == 0), None)


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One continuation, or in a stream what was added to it."""

    index: int = 0
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/v1/completions`; its stream has the same form."""

    choices: list[CompletionChoice] = []
    id: str | None = None
    model: str | None = None
    created: float | None = None
    usage: Usage | None = None
    timings: Timings | None = None

    @property
    def text(self) -> str:
        """The first continuation."""
        return "".join(choice.text or "" for choice in self.choices if choice.index == 0)

    @property
    def finish_reason(self) -> str | None:
        """Why the first continuation ended."""
        return next((c.finish_reason for c in self.choices if c.index == 0), None)


class Infill(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/infill`; its stream has the same form, `stop` set in the last event."""

    content: str = ""
    stop: bool | None = None
    stop_type: str | None = None
    truncated: bool | None = None
    tokens_predicted: int | None = None
    tokens_evaluated: int | None = None
    tokens_cached: int | None = None
    timings: Timings | None = None
    model: str | None = None

    @property
    def text(self) -> str:
        """What belongs between prefix and suffix."""
        return self.content

    @property
    def finish_reason(self) -> str | None:
        """Why it ended, in the field's OpenAI words."""
        if not self.stop:
            return None
        return "length" if self.stop_type == "limit" else "stop"

    @property
    def usage(self) -> Usage | None:
        """Token counts, known at the end."""
        if not self.stop or self.tokens_predicted is None:
            return None
        num_prompt = self.tokens_evaluated or 0
        return Usage(
            prompt_tokens=num_prompt,
            completion_tokens=self.tokens_predicted,
            total_tokens=num_prompt + self.tokens_predicted,
        )


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model of `/v1/models`. `meta` is llama.cpp's, `max_model_len` vLLM's, the rest ours."""

    id: str
    owned_by: str | None = None
    created: float | None = None
    meta: dict[str, Any] | None = None
    max_model_len: int | None = None
    capabilities: list[str] | None = None

    @property
    def context_length(self) -> int | None:
        """Tokens the server gives this model, where it says so."""
        context = (self.meta or {}).get("n_ctx", self.max_model_len)
        return context if isinstance(context, int) else None


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/v1/models`."""

    data: list[Model]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/health`."""

    status: str = "ok"


class Props(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/props`, as far as servers agree on it."""

    default_generation_settings: dict[str, Any] | None = None
    total_slots: int | None = None
    model_path: str | None = None
    chat_template: str | None = None
    chat_template_caps: dict[str, Any] | None = None


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/tokenize`."""

    tokens: list[int]


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/detokenize`."""

    content: str


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/apply-template`."""

    prompt: str


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """One vector."""

    embedding: list[float]
    index: int = 0


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of `/v1/embeddings`."""

    data: list[Embedding]
    model: str | None = None
    usage: Usage | None = None
