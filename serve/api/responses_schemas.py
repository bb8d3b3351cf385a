"""The Responses dialect as types. Fields a client sends beyond these are ignored."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.chat_schemas import LogprobEntry
from serve.api.progress import PromptProgress
from serve.api.sampling import Sampling
from serve.api.usage import TimingsBody

Item = dict[str, Any]


class ReasoningOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How hard to think, for templates that know it; summaries are not made."""

    effort: str | None = None
    summary: str | None = None


class TextOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of the answer: `text`, `json_object` or `json_schema`."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ResponseRequest(Sampling, kw_only=True):
    """Something to answer. `model` is not checked: clients send names of their own.

    With `previous_response_id` the input goes on where a stored response ended. `include` is
    understood for `message.output_text.logprobs` and `reasoning.encrypted_content`. `conversation`
    and `prompt` name what a hosted service has stored, and are refused.
    """

    input: str | list[Item] | None = None
    model: str | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    stream: bool | None = None
    background: bool | None = None
    max_output_tokens: int | None = None
    tools: list[Item] | None = None
    tool_choice: str | Item | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    truncation: str | None = None
    conversation: Any = None
    prompt: Any = None
    service_tier: str | None = None
    metadata: dict[str, str] | None = None
    user: str | None = None
    prompt_cache_key: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_progress: bool | None = None
    timings_per_token: bool | None = None
    cache_prompt: bool | None = None


class OutputText(msgspec.Struct, frozen=True, kw_only=True, tag="output_text", tag_field="type"):
    """Text of a message. There is nothing to cite, so there are no annotations."""

    text: str
    annotations: list[Any] = []
    logprobs: list[LogprobEntry] = []


class ReasoningText(
    msgspec.Struct, frozen=True, kw_only=True, tag="reasoning_text", tag_field="type"
):
    """Text of a thought."""

    text: str


class MessageItem(msgspec.Struct, frozen=True, kw_only=True, tag="message", tag_field="type"):
    """What the model says."""

    id: str
    status: str
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class ReasoningItem(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning", tag_field="type"):
    """What the model thought first.

    `encrypted_content`, where it was asked for, is the same in base 64: clients that keep no
    thoughts send it back untouched. There is nothing to hide from who runs the model.
    """

    id: str
    status: str
    content: list[ReasoningText]
    summary: list[Any] = []
    encrypted_content: str | None = None


class CallItem(msgspec.Struct, frozen=True, kw_only=True, tag="function_call", tag_field="type"):
    """A function the model wants called; `arguments` is the text of a JSON object."""

    id: str
    status: str
    call_id: str
    name: str
    arguments: str


OutputItem = MessageItem | ReasoningItem | CallItem


class InputTokensDetails(msgspec.Struct, frozen=True):
    """Prompt tokens that were already in the KV cache."""

    cached_tokens: int


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """Tokens of thoughts."""

    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(msgspec.Struct, frozen=True):
    """Why a response failed."""

    code: str
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response is not complete."""

    reason: str


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True):
    """A response. `status`: in_progress, completed, incomplete, failed or cancelled."""

    id: str
    created_at: int
    model: str
    status: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    tool_choice: str | Item
    tools: list[Item]
    object: Literal["response"] = "response"
    completed_at: int | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    reasoning: ReasoningOptions = ReasoningOptions()
    store: bool = True
    temperature: float | None = None
    text: TextOptions
    top_p: float | None = None
    top_logprobs: int = 0
    truncation: str = "disabled"
    background: bool = False
    usage: ResponseUsage | None = None
    metadata: dict[str, str] = {}
    user: str | None = None
    prompt_cache_key: str | None = None


class ResponseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream; `type` decides which of the other fields it has."""

    type: str
    sequence_number: int = 0
    response: ResponseBody | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    item: OutputItem | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    part: OutputText | ReasoningText | UnsetType = UNSET
    delta: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    logprobs: list[LogprobEntry] | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    timings: TimingsBody | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET


class ItemList(msgspec.Struct, frozen=True, kw_only=True):
    """What a stored response was asked, the turns before it included."""

    data: list[Item]
    first_id: str
    last_id: str
    has_more: bool = False
    object: Literal["list"] = "list"


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """A response that is not stored any more."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True
