"""Sampling parameters to the next token: one sampler per sequence.

    logits → bias → penalties → constraint → greedy: the largest
                                           → else: candidates → llama chain (top_k, typical, top_p,
                                             min_p, temperature, draw)

A constraint keeps the tokens A of a distribution p, and the draw is from p(x) / p(A). Where nothing
is cut off p, and for the largest logit, the free draw is looked at first, which costs a fiftieth of
a mask: it is kept with p(x), else the draw from A is kept, so x comes with
p(x) + (1 - p(A)) p(x) / p(A) = p(x) / p(A), the same. Where top_k, top_p, min_p or typical_p cut
tails off it would not be: which tokens are tails depends on A. There the mask comes first.

Knows no context and no sequence: it gets a row of logits and gives a token id.
"""

from __future__ import annotations

import ctypes
import math
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from serve.engine.errors import InvalidSamplingError
from serve.engine.native import library
from serve.engine.penalties import Bias, Penalties

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serve.engine.constraint import ConstraintState
    from serve.engine.request import SamplingParams

Logits = npt.NDArray[np.float32]

# Tokens whose logit is further than this below the largest (times the temperature above 1) are
# not offered to the chain: each has less than 3e-9 of the best one's probability, all 150,000 of
# a large vocabulary together less than 0.05%. Sorting the rest would cost 12 ms a token.
CANDIDATE_RANGE = 20.0

_NARROW_RANGES = (6.0, 11.0, 16.0)  # one of them holds 40 tokens, and few besides
_MARGIN = 0.01  # for rounding
_NONE = np.empty(0, np.int64)

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_MAX_TOP_K = 2**31 - 1  # an int32 in the library
_LARGEST = 3.4e38  # that a float32 holds
_SEED_RANGE = 2**32 - 1  # the last value asks llama.cpp for a seed of its own


class Sampler:
    """Chooses tokens for one sequence. `close` frees what llama.cpp holds."""

    def __init__(
        self,
        params: SamplingParams,
        *,
        prompt_token_ids: Sequence[int] = (),
        banned_token_ids: Iterable[int] = (),
        constraint: ConstraintState | None = None,
    ) -> None:
        bias = dict(params.logit_bias) | dict.fromkeys(banned_token_ids, -math.inf)
        self._bias = Bias(bias) if bias else None
        self._penalties = Penalties(params, prompt_token_ids) if Penalties.wanted(params) else None
        self._chain = None if params.temperature == 0 else Chain(params)
        looks_first = params.temperature == 0 or not _cuts_tails(params)
        self._looks_first = looks_first and not params.post_sampling
        self._constraint = constraint
        self._last = -1

    def sample(self, logits: Logits) -> int:
        """Choose from `(n_vocab,) float32` logits, which stay as they are."""
        adjusted = self._adjust(logits)
        constraint = self._constraint
        if constraint is None or not constraint.is_held:
            token_id = self._draw(adjusted)
        else:
            token_id = self._draw_allowed(constraint, adjusted, logits)
        self.accept(token_id)
        self._last = token_id
        return token_id

    def chances(self) -> list[tuple[int, float]]:
        """Return the tokens that the last one was drawn from with their probabilities, best first.

        What was filtered out is not among them; a greedy choice was the only one.
        """
        chances = [] if self._chain is None else self._chain.chances()
        # A temperature near zero leaves numbers that are none; it was the only one then.
        return chances if self._last in dict(chances) else [(self._last, 1.0)]

    def accept(self, token_id: int) -> None:
        """Count a token that came without being sampled."""
        if self._penalties is not None:
            self._penalties.accept(token_id)

    def _draw(self, adjusted: Logits) -> int:
        return int(adjusted.argmax()) if self._chain is None else self._chain.draw(adjusted)

    def _draw_allowed(self, constraint: ConstraintState, adjusted: Logits, logits: Logits) -> int:
        """Choose a token that may come. The constraint outweighs a ban on all such tokens."""
        if self._looks_first:
            token_id = self._draw(adjusted)
            if constraint.allows(token_id):
                return token_id
        masked = constraint.masked(adjusted)
        if masked.max() == -math.inf:
            masked = constraint.masked(logits)
        return self._draw(masked)

    def _adjust(self, logits: Logits) -> Logits:
        steps = [step for step in (self._bias, self._penalties) if step is not None]
        if not steps:
            return logits
        adjusted = logits.copy()
        for step in steps:
            step.apply(adjusted)
        return adjusted

    def close(self) -> None:
        """Free the chain; the sampler is not used afterwards."""
        if self._chain is not None:
            self._chain.close()
            self._chain = None


class Chain:
    """A llama sampler chain that ends in a seeded draw. Source: llama.h `llama_sampler_*`."""

    def __init__(self, params: SamplingParams) -> None:
        self._lib = library()
        chain_params = self._lib.llama_sampler_chain_default_params()
        self._chain: Any = self._lib.llama_sampler_chain_init(chain_params)
        self._top_k = params.top_k
        self._ranges = _candidate_ranges(params)
        self._offered: npt.NDArray[np.void] | None = None
        for step in _steps(params):
            self._lib.llama_sampler_chain_add(self._chain, step)

    def draw(self, logits: Logits) -> int:
        """Draw a token id and advance the random state."""
        token_ids = self._candidate_ids(logits)
        candidates = np.zeros(len(token_ids), _CANDIDATE)
        candidates["id"] = token_ids
        candidates["logit"] = logits[token_ids]
        pointer = ctypes.cast(candidates.ctypes.data, self._lib.llama_token_data_p)
        array = self._lib.llama_token_data_array(
            data=pointer, size=len(candidates), selected=-1, sorted=False
        )
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        token_id = int(array.data[array.selected].id)
        self._offered = candidates[: int(array.size)]
        self._lib.llama_sampler_accept(self._chain, token_id)
        return token_id

    def chances(self) -> list[tuple[int, float]]:
        """Return what the filters left for the last draw, with probabilities, best first."""
        assert self._offered is not None  # asked for after a draw only
        left = self._offered[self._offered["p"] > 0]
        total = float(left["p"].sum(dtype=np.float64))
        order = np.argsort(-left["p"], kind="stable")
        return [(int(each["id"]), float(each["p"]) / total) for each in left[order]]

    def _candidate_ids(self, logits: Logits) -> npt.NDArray[np.int64]:
        """Return the tokens worth offering: a range that holds `top_k` of them holds the best."""
        largest, token_ids = logits.max(), _NONE
        for width in self._ranges:
            token_ids = np.flatnonzero(logits >= largest - width)
            if len(token_ids) >= self._top_k:
                break
        return token_ids

    def close(self) -> None:
        """Free the chain and its steps."""
        self._lib.llama_sampler_free(self._chain)


def _candidate_ranges(params: SamplingParams) -> tuple[float, ...]:
    """Return how far below the largest logit to look, the narrow range first.

    `top_p` and `typical_p` are taken before the temperature, so they see its tails; without them a
    low temperature, or `min_p`, leaves nothing further down.
    """
    width = CANDIDATE_RANGE * max(params.temperature, 1.0)
    if params.top_p == 1 and params.typical_p == 1:
        width = CANDIDATE_RANGE * params.temperature
        if params.min_p > 0:
            width = min(width, _MARGIN - math.log(params.min_p))
    narrower = [each for each in _NARROW_RANGES if each < width] if params.top_k > 0 else []
    return (*narrower, width)


def _cuts_tails(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.typical_p < 1 or params.top_p < 1 or params.min_p > 0


def _steps(params: SamplingParams) -> list[Any]:
    lib = library()
    seed = secrets.randbelow(_SEED_RANGE) if params.seed is None else params.seed % _SEED_RANGE
    steps = []
    if params.top_k > 0:
        steps.append(lib.llama_sampler_init_top_k(min(params.top_k, _MAX_TOP_K)))
    if params.typical_p < 1:
        steps.append(lib.llama_sampler_init_typical(params.typical_p, 1))
    if params.top_p < 1:
        steps.append(lib.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0:
        steps.append(lib.llama_sampler_init_min_p(params.min_p, 1))
    steps.append(lib.llama_sampler_init_temp(params.temperature))
    steps.append(lib.llama_sampler_init_dist(seed))
    return steps


# name, smallest, largest, whether the smallest itself is allowed
_RANGES: tuple[tuple[str, float, float, bool], ...] = (
    ("temperature", 0.0, 100.0, True),
    ("top_p", 0.0, 1.0, False),
    ("min_p", 0.0, 1.0, True),
    ("typical_p", 0.0, 1.0, False),
    ("frequency_penalty", -2.0, 2.0, True),
    ("presence_penalty", -2.0, 2.0, True),
    ("repeat_penalty", 0.0, 10.0, False),
    ("logprobs", 0, 100, True),
)


def check_sampling(params: SamplingParams, n_vocab: int) -> None:
    """Refuse values that mean nothing. `top_k` 0 or less is off. Raises: InvalidSamplingError."""
    for name, low, high, low_allowed in _RANGES:
        value = getattr(params, name)
        if value is None:
            continue
        # Written so that NaN fails too.
        if not (low <= value <= high) or (value == low and not low_allowed):
            sign = "at least" if low_allowed else "more than"
            raise InvalidSamplingError(
                name, f"{name} is {value}; it must be {sign} {low:g} and at most {high:g}"
            )
    if params.repeat_last_n < -1:
        raise InvalidSamplingError(
            "repeat_last_n", f"repeat_last_n is {params.repeat_last_n}; -1 is the smallest"
        )
    for token_id, bias in params.logit_bias.items():
        if not 0 <= token_id < n_vocab:
            raise InvalidSamplingError(
                "logit_bias", f"logit_bias names token {token_id}; the vocabulary has {n_vocab}"
            )
        if math.isnan(bias) or (bias != -math.inf and abs(bias) > _LARGEST):
            raise InvalidSamplingError("logit_bias", f"logit_bias of {token_id} is {bias}")
