"""The Anthropic dialect as types. Fields a client sends beyond these are ignored."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.constraint_schemas import ResponseFormat


class AnthropicMessage(msgspec.Struct, kw_only=True):
    """One turn. `content` is text or a list of blocks."""

    role: str
    content: str | list[dict[str, Any]]


class ToolChoice(msgspec.Struct, kw_only=True):
    """`auto`, `none`, `any`, or `tool` with its name."""

    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, kw_only=True):
    """Whether the model may think first; how much is not limited."""

    type: str


class OutputConfig(msgspec.Struct, kw_only=True):
    """The JSON schema that the answer has to keep to, and how hard to think, where it is known."""

    format: ResponseFormat | None = None
    effort: str | None = None


class CountRequest(msgspec.Struct, kw_only=True):
    """A prompt. `model` is not checked: clients send names of their own."""

    messages: list[AnthropicMessage]
    model: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: ResponseFormat | None = None


class MessagesRequest(CountRequest, kw_only=True):
    """A prompt to answer. `output_format` is the older place of `output_config.format`."""

    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None


class TextBlock(msgspec.Struct, frozen=True, kw_only=True, tag="text"):
    """A piece of text."""

    text: str


class ToolUseBlock(msgspec.Struct, frozen=True, kw_only=True, tag="tool_use"):
    """A call. `input` is a JSON object."""

    id: str
    name: str
    input: Any


class ThinkingBlock(msgspec.Struct, frozen=True, kw_only=True, tag="thinking"):
    """What the model thought first. Nothing is signed here, so the signature is empty."""

    thinking: str
    signature: str = ""


Block = TextBlock | ThinkingBlock | ToolUseBlock


class AnthropicUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts; `input_tokens` leaves out those that were already in the KV cache."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0


class MessageBody(msgspec.Struct, frozen=True, kw_only=True):
    """An answer; in a stream's first event one without content and reason."""

    id: str
    model: str
    content: list[Block]
    usage: AnthropicUsage
    stop_reason: str | None = None
    stop_sequence: str | None = None
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class AnthropicEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream; `type` decides which of the other fields it has."""

    type: str
    message: MessageBody | UnsetType = UNSET
    index: int | UnsetType = UNSET
    content_block: Block | UnsetType = UNSET
    delta: dict[str, Any] | UnsetType = UNSET
    usage: AnthropicUsage | UnsetType = UNSET


class CountBody(msgspec.Struct, frozen=True, kw_only=True):
    """How long a prompt is."""

    input_tokens: int


class AnthropicErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong."""

    type: str
    message: str


class AnthropicError(msgspec.Struct, frozen=True, kw_only=True):
    """What a client gets instead of an answer."""

    error: AnthropicErrorBody
    type: Literal["error"] = "error"
