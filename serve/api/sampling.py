"""From a request's sampling fields to the engine's, with this server's defaults.

A field the client left out comes from the configuration, else from the GGUF's `general.sampling.*`
metadata, else from `CODE`. Knows no dialect: each schema that samples has the fields of `Sampling`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from serve.api.errors import InvalidRequestError
from serve.engine.request import SamplingParams

if TYPE_CHECKING:
    from serve.api.served import Served
    from serve.config import SamplingSettings

CODE = SamplingParams(temperature=0.2, top_k=40, top_p=0.95, min_p=0.05)
"""For code: nearly greedy, since one wrong token breaks a program, with a little room so that a
retry differs. The tails are cut as llama.cpp does, which also keeps sampling cheap."""

NEVER = -math.inf  # as a bias

_METADATA = {
    "general.sampling.temp": ("temperature", float),
    "general.sampling.top_k": ("top_k", int),
    "general.sampling.top_p": ("top_p", float),
    "general.sampling.min_p": ("min_p", float),
    "general.sampling.penalty_repeat": ("repeat_penalty", float),
    "general.sampling.penalty_last_n": ("repeat_last_n", int),
}


class Sampling(msgspec.Struct, kw_only=True):
    """Sampling fields as OpenAI and llama.cpp name them; null means the server's default.

    `logit_bias` maps token ids to numbers, or is a list of pairs. As for llama.cpp, text stands for
    each of its tokens, and false for never. The fields behind it name samplers that are not here:
    they may be sent with the value that switches them off.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    seed: int | None = None
    logit_bias: dict[str, float | bool] | list[tuple[int | str, float | bool]] | None = None
    mirostat: int | None = None
    dry_multiplier: float | None = None
    xtc_probability: float | None = None
    dynatemp_range: float | None = None
    top_n_sigma: float | None = None


_ABSENT = ("mirostat", "dry_multiplier", "xtc_probability", "dynatemp_range", "top_n_sigma")
_NUMBERS = tuple(f for f in Sampling.__struct_fields__ if f not in {"seed", "logit_bias", *_ABSENT})


def defaults(metadata: Mapping[str, str], settings: SamplingSettings) -> SamplingParams:
    """Return what a request that sends nothing gets from this model."""
    chosen: dict[str, float] = {}
    for key, (name, number) in _METADATA.items():
        if key in metadata:
            chosen[name] = number(float(metadata[key]))
    configured = msgspec.structs.asdict(settings).items()
    chosen |= {name: value for name, value in configured if value is not None}
    return msgspec.structs.replace(CODE, **chosen)


def to_params(asked: Sampling, served: Served, *, logprobs: int | None = None) -> SamplingParams:
    """Fill in the defaults; ranges are the engine's to check.

    Raises:
        InvalidRequestError: too many alternatives or biases, or a sampler that is not here.
    """
    default, limits = served.sampling, served.settings.limits
    if logprobs is not None and not 0 <= logprobs <= limits.top_logprobs:
        raise InvalidRequestError(
            f"{logprobs} alternatives per token were asked for, the limit is {limits.top_logprobs}",
            param="top_logprobs",
        )
    _refuse_absent(asked)
    given = {name: getattr(asked, name) for name in _NUMBERS}
    chosen = {name: value for name, value in given.items() if value is not None}
    seed = default.seed if asked.seed is None else asked.seed if asked.seed >= 0 else None
    return msgspec.structs.replace(
        default,
        **chosen,
        seed=seed,
        logit_bias=_biases(asked.logit_bias or {}, served),
        logprobs=logprobs,
    )


def _refuse_absent(asked: Sampling) -> None:
    """Refuse what would change the answer and does not; 0 and below switch each of these off."""
    for name in _ABSENT:
        if (getattr(asked, name) or 0) > 0:
            raise InvalidRequestError(
                f"{name} is not supported; use temperature, top_k, top_p, min_p or typical_p",
                param=name,
            )


_NEUTRAL: dict[str, tuple[str, float]] = {
    "top_k": ("top_k", 0),
    "top_p": ("top_p", 1.0),
    "min_p": ("min_p", 0.0),
    "typ_p": ("typical_p", 1.0),
}


def only(params: SamplingParams, samplers: Sequence[str]) -> SamplingParams:
    """Switch off the filters that llama.cpp's `samplers` list leaves out.

    The temperature stays: the list of an editor names `infill`, which picks among likely tokens
    nearly greedily, and a low temperature is what stands for it here.
    """
    off = dict(neutral for name, neutral in _NEUTRAL.items() if name not in samplers)
    return msgspec.structs.replace(params, **off)


def _biases(
    asked: Mapping[str, float | bool] | Sequence[tuple[int | str, float | bool]], served: Served
) -> dict[int, float]:
    pairs = list(asked.items()) if isinstance(asked, Mapping) else list(asked)
    limit = served.settings.limits.logit_bias
    if len(pairs) > limit:
        raise InvalidRequestError(
            f"logit_bias has {len(pairs)} entries, the limit is {limit}", param="logit_bias"
        )
    return {
        token_id: NEVER if bias is False else float(bias)
        for token, bias in pairs
        for token_id in _token_ids(token, served)
    }


def _token_ids(token: int | str, served: Served) -> list[int]:
    """Return the id that a key spells, or the tokens of a text."""
    if isinstance(token, int) or token.removeprefix("-").isdecimal():
        return [int(token)]
    return served.tokenize_plain(token)
