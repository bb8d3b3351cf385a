"""llama.cpp's completion dialect as types. Fields a client sends beyond these are ignored."""

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.adapters import LoraChoice
from serve.api.progress import PromptProgress, Watched
from serve.api.usage import TimingsBody
from serve.chat.fim import ExtraFile


class NativeRequest(Watched, kw_only=True):
    """What /completion and /infill share.

    `id_slot` is taken and changes nothing: the engine seats a request where most of its prompt is
    cached already. `t_max_prompt_ms` is a wish of /infill. `post_sampling_probs`: probabilities are
    those that a token was drawn by, after all filters.
    """

    model: str | None = None
    n_predict: int | None = None
    n_indent: int = 0
    n_cmpl: int | None = None
    n_probs: int = 0
    t_max_predict_ms: float = 0
    t_max_prompt_ms: float | None = None
    stream: bool | None = None
    stop: str | list[str] | None = None
    samplers: list[str] | None = None
    response_fields: list[str] | None = None
    return_tokens: bool | None = None
    post_sampling_probs: bool | None = None
    id_slot: int | None = None
    ignore_eos: bool | None = None
    lora: list[LoraChoice] | None = None


class PromptObject(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt as llama.cpp takes it beside pictures, of which there may be none here."""

    prompt_string: str
    multimodal_data: list[str] = []


Mixed = list[str | int]
"""Text and token ids that are read as one prompt."""


NativePrompt = str | PromptObject | list[str | int | Mixed | PromptObject]


class NativeCompletionRequest(NativeRequest, kw_only=True):
    """`prompt` is text, token ids, or both in one list; a list of such, or of texts, is several."""

    prompt: NativePrompt


class Chunk(ExtraFile, frozen=True, kw_only=True):
    """A piece of another file."""

    text: str
    filename: str = "file"


class InfillRequest(NativeRequest, kw_only=True):
    """Text around a cursor; `prompt` is what the cursor's line holds before it."""

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[Chunk] | None = None
    prompt: str = ""


class Probability(msgspec.Struct, frozen=True, kw_only=True):
    """A token with its natural log probability, and the alternatives where it was chosen.

    With `post_sampling_probs` the same as plain probabilities, `prob` and `top_probs`.
    """

    id: int
    token: str
    bytes: list[int]
    logprob: float | UnsetType = UNSET
    top_logprobs: list["Probability"] | UnsetType = UNSET
    prob: float | UnsetType = UNSET
    top_probs: list["Probability"] | UnsetType = UNSET


class NativePiece(msgspec.Struct, frozen=True, kw_only=True):
    """New text of a stream."""

    index: int
    content: str
    tokens: list[int]
    stop: bool = False
    id_slot: int = -1
    completion_probabilities: list[Probability] | UnsetType = UNSET
    timings: TimingsBody | UnsetType = UNSET
    prompt_progress: PromptProgress | UnsetType = UNSET


class TokenBias(msgspec.Struct, frozen=True, kw_only=True):
    """A bias on one token; null is never."""

    token: int
    bias: float | None


class AnswerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer was made: sampling, limit and stops; `n_predict` -1 is no limit."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    frequency_penalty: float
    presence_penalty: float
    repeat_penalty: float
    repeat_last_n: int
    seed: int | None
    logit_bias: list[TokenBias]
    n_predict: int
    n_probs: int
    post_sampling_probs: bool
    ignore_eos: bool
    stop: tuple[str, ...]
    stream: bool


class NativeCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or the last event of a stream, whose content is then empty.

    `stop_type` is eos, word or limit. `tokens_cached` is what the sequence held at its end.
    `truncated` says that the context was too small: text around the cursor was left out, or the
    answer ended because it was full. `prompt` is there
    when `response_fields` names it: editors do not want theirs back.
    """

    index: int
    content: str
    tokens: list[int]
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    tokens_cached: int
    has_new_line: bool
    truncated: bool
    stop_type: str
    stopping_word: str
    timings: TimingsBody
    generation_settings: AnswerSettings
    prompt: str | UnsetType = UNSET
    stop: bool = True
    id_slot: int = -1
    completion_probabilities: list[Probability] | UnsetType = UNSET
