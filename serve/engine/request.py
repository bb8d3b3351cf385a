"""What is asked of the engine and what it answers: plain, immutable values.

Token ids go in, text and token ids come out. Knows neither chat nor HTTP nor llama_cpp.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence  # noqa: TC003  # msgspec reads the field types
from typing import Literal

import msgspec


class Priority(enum.IntEnum):
    """Who goes first; a lower number is served earlier."""

    FIM = 0
    INTERACTIVE = 1
    BACKGROUND = 2


class FinishReason(enum.StrEnum):
    """Why a sequence ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


AdapterMix = tuple[tuple[int, float], ...]
"""Adapters to compute with, each a number in the order of the configuration and its scale."""


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the next token is chosen. `temperature` 0 is greedy.

    `seed` None draws one. `logprobs` is how many alternatives are reported per token, None for
    no logprobs at all; they are the model's own, or with `post_sampling` those that the token was
    drawn by, after biases, penalties, filters and temperature. Penalties follow the OpenAI
    definitions; `repeat_penalty` and `repeat_last_n` are llama.cpp's.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int | None = None
    logit_bias: Mapping[int, float] = {}
    logprobs: int | None = None
    post_sampling: bool = False


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    r"""What the text has to follow. `kind` says how `source` is written; `gbnf` may also be Lark.

    `trigger` None constrains from the first token. Otherwise the text is free up to a match of this
    regular expression, and what comes behind the match follows the source, to its end; then the
    text is free again, or over when `once` is set. `\\A` stands for the beginning of the answer, a
    match is at most 256 bytes long, and control tokens read by name.
    """

    kind: Literal["json_schema", "regex", "lark", "gbnf"]
    source: str
    trigger: str | None = None
    once: bool = False


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to continue.

    `max_tokens` None means: until the context is full. 0 reads the prompt and generates nothing.
    `stop` strings are never part of the text that comes out. `request_id` appears in logs.
    `cache_scope` is opaque: what was read for one scope is never reused for another.
    `begins_with` is text that the answer has to begin with and that does not come out: half a word,
    before which the prompt ends.
    `adapters` are added to the weights for this request alone; none is the base model.
    `prediction_token_ids` is what the answer is expected to be like; it makes a right guess faster
    and changes nothing else. `drafts` False computes one token after the other.
    `prompt_logprobs` is how many alternatives are reported for each token of the prompt, None for
    no logprobs of it. Such a prompt is read whole, whatever is known of it, since cells that exist
    have no logits any more; and its own cells are not kept, so that scoring many texts does not
    push out what others come back to.
    `from_cache` False reads all of a prompt, too, but keeps its cells.
    `reports_progress` asks for deltas without text while the prompt is read, and for `progress` in
    those with text.
    """

    prompt_token_ids: Sequence[int]
    sampling: SamplingParams = SamplingParams()
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    priority: Priority = Priority.INTERACTIVE
    ignore_eos: bool = False
    request_id: str = ""
    cache_scope: str = ""
    begins_with: str = ""
    adapters: AdapterMix = ()
    constraint: Constraint | None = None
    prediction_token_ids: Sequence[int] = ()
    drafts: bool = True
    prompt_logprobs: int | None = None
    from_cache: bool = True
    reports_progress: bool = False


class TopLogprob(msgspec.Struct, frozen=True):
    """One alternative at a position. `logprob` is natural; see `SamplingParams` for whose."""

    token_id: int
    text: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True):
    """The chosen token and the best alternatives, best first."""

    token_id: int
    text: bytes
    logprob: float
    top: tuple[TopLogprob, ...]


class Timings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of one sequence went."""

    queue_seconds: float
    prompt_seconds: float
    predicted_seconds: float


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sequence has come. `num_read_tokens` leaves out those that came from the cache."""

    num_prompt_tokens: int
    num_cached_tokens: int
    num_read_tokens: int
    num_completion_tokens: int
    timings: Timings
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0


class TextDelta(msgspec.Struct, frozen=True):
    """New text, valid UTF-8, never holding a part of a stop string. `text` may be empty.

    `token_ids` are the tokens sampled since the last delta. `prompt_logprobs` come once, with the
    first delta, for every token of the prompt but the first, before which there is nothing.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    progress: Progress | None = None

    @property
    def is_silent(self) -> bool:
        """Say whether it tells of the prompt alone."""
        return self.progress is not None and not (self.text or self.token_ids)


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The last event of every stream. `stop_text` is the stop string that matched, if one did.

    `num_cached_tokens` counts prompt tokens that were not read again. `num_predicted_tokens` are
    those of the prediction that the answer took up, `num_unpredicted_tokens` those it did not.
    `num_draft_tokens` were computed as guesses, `num_accepted_tokens` of them came true. `error`
    is set exactly when `reason` is ERROR.
    """

    reason: FinishReason
    num_prompt_tokens: int
    num_cached_tokens: int
    num_completion_tokens: int
    timings: Timings
    num_predicted_tokens: int = 0
    num_unpredicted_tokens: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0
    stop_text: str | None = None
    error: str | None = None

    @property
    def num_read_tokens(self) -> int:
        """Count the tokens of the prompt that were read."""
        return self.num_prompt_tokens - self.num_cached_tokens


Event = TextDelta | Finished
