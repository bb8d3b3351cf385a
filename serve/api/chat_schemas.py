"""The chat completions dialect as types. Fields a client sends beyond these are ignored."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.adapters import LoraChoice
from serve.api.progress import PromptProgress, Watched
from serve.api.usage import TimingsBody, Usage


class ChatMessage(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One turn. `content` is text, a list of parts, or null beside tool calls."""

    role: str
    content: str | list[Any] | None = None
    name: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType | None = UNSET
    tool_call_id: str | UnsetType = UNSET
    reasoning_content: str | UnsetType | None = UNSET


class StreamOptions(msgspec.Struct, kw_only=True):
    """Whether a last chunk carries the usage."""

    include_usage: bool | None = None


class ChatRequest(Watched, kw_only=True):
    """A chat completions request. `model` is not checked: editors send names of their own.

    `reasoning_effort` "none" asks templates that know how to leave thoughts out.
    `reasoning_format` "none" leaves them in the content, as they stand.
    `continue_final_message`, vLLM's name: whether a last assistant turn is continued, which it is
    unless this is false; `add_generation_prompt` true then asks for the contrary.
    `functions` is the older name of `tools`, and `modalities` may name text only.
    `verbose`: the answer holds the prompt as it was read, as `__verbose`.
    """

    messages: list[ChatMessage]
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n_predict: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    reasoning_format: str | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    service_tier: str | None = None
    ignore_eos: bool | None = None
    verbose: bool | None = None
    functions: list[Any] | None = None
    modalities: list[str] | None = None
    lora: list[LoraChoice] | None = None


class InputTokens(msgspec.Struct, frozen=True, kw_only=True):
    """How long the prompt of a request would be."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


class LogprobAlternative(msgspec.Struct, frozen=True, kw_only=True):
    """One token that could have come."""

    token: str
    logprob: float
    bytes: list[int]


class LogprobEntry(LogprobAlternative, frozen=True, kw_only=True):
    """The token that came, and the best alternatives."""

    top_logprobs: list[LogprobAlternative]


class ChatLogprobs(msgspec.Struct, frozen=True):
    """Natural log probabilities of the model's own distribution."""

    content: list[LogprobEntry]


class CalledFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A tool's name and the text of a JSON object; a stream brings one after the other."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallBody(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a whole answer."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the call at `index` of an answer."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: CalledFunction


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The assistant's turn. `content` is null when all of it is calls."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallBody] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of `n` answers."""

    index: int
    message: AnswerMessage
    finish_reason: str
    logprobs: ChatLogprobs | None = None


class Verbose(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: the prompt's text, marks spelled out, and its tokens."""

    prompt: str
    prompt_tokens: list[int]


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    id: str
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    timings: TimingsBody
    object: Literal["chat.completion"] = "chat.completion"
    system_fingerprint: str | None = None
    verbose: Verbose | UnsetType = msgspec.field(default=UNSET, name="__verbose")


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What is new in an answer."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChatChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of one of `n` answers; the last one says why it ended."""

    index: int
    delta: Delta
    finish_reason: str | None = None
    logprobs: ChatLogprobs | None = None


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    id: str
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType = UNSET
    timings: TimingsBody | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    system_fingerprint: str | None = None
    verbose: Verbose | UnsetType = msgspec.field(default=UNSET, name="__verbose")
