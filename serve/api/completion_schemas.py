"""The completions dialect as types. Fields a client sends beyond these are ignored."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.adapters import LoraChoice
from serve.api.chat_schemas import StreamOptions
from serve.api.progress import PromptProgress, Watched
from serve.api.usage import TimingsBody, Usage


class CompletionRequest(Watched, kw_only=True):
    """A completions request. `prompt` is text, token ids, or a list of either."""

    prompt: str | list[str | int | list[int]]
    model: str | None = None
    suffix: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n_predict: int | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    stop: str | list[str] | None = None
    logprobs: int | bool | None = None
    service_tier: str | None = None
    ignore_eos: bool | None = None
    lora: list[LoraChoice] | None = None


class CompletionLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Parallel lists, one entry a token; offsets are characters into `text`.

    The first token of an echoed prompt has null for both, since nothing stands before it.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, or a piece of it in a stream."""

    index: int
    text: str
    finish_reason: str | None = None
    logprobs: CompletionLogprobs | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or one event of a stream."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | UnsetType = UNSET
    timings: TimingsBody | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET
    object: Literal["text_completion"] = "text_completion"
    system_fingerprint: str | None = None
