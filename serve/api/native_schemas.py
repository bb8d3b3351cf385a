"""llama.cpp's completion dialect as types. Fields a client sends beyond these are ignored."""

import msgspec
from msgspec import UNSET, UnsetType

from serve.api.adapters import LoraChoice
from serve.api.prediction import Predicted
from serve.api.usage import TimingsBody
from serve.chat.fim import ExtraFile
from serve.engine.request import SamplingParams


class NativeRequest(Predicted, kw_only=True):
    """What /completion and /infill share.

    `id_slot`, `cache_prompt` and `t_max_prompt_ms` are taken and change nothing: the engine seats
    a request where most of its prompt is cached already, and reads the rest in any case.
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
    cache_prompt: bool | None = None
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

    filename: str = "file"
    text: str = ""


class InfillRequest(NativeRequest, kw_only=True):
    """Text around a cursor; `prompt` is what the cursor's line holds before it."""

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[Chunk] | None = None
    prompt: str = ""


class Probability(msgspec.Struct, frozen=True, kw_only=True):
    """A token with its natural log probability, and the alternatives where it was chosen."""

    id: int
    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list["Probability"] | UnsetType = UNSET


class NativePiece(msgspec.Struct, frozen=True, kw_only=True):
    """New text of a stream."""

    index: int
    content: str
    tokens: list[int]
    stop: bool = False
    id_slot: int = -1
    completion_probabilities: list[Probability] | UnsetType = UNSET


class AnswerSettings(SamplingParams, frozen=True, kw_only=True):
    """How an answer was made: sampling, limit and stops; `n_predict` -1 is no limit."""

    n_predict: int
    stop: tuple[str, ...]
    stream: bool


class NativeCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or the last event of a stream, whose content is then empty.

    `stop_type` is eos, word or limit. `tokens_cached` is what the sequence held at its end.
    `truncated` says that text around the cursor did not fit into the context. `prompt` is there
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
