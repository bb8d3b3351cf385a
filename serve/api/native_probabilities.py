"""How likely tokens were, as llama.cpp's dialect says it. Knows no request."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from serve.api.native_schemas import Probability

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.engine.request import TokenLogprob, TopLogprob


def probabilities(
    logprobs: Sequence[TokenLogprob], *, drawn: bool
) -> list[Probability] | UnsetType:
    """Return an entry a token; `drawn` gives what they were drawn by, as plain probabilities."""
    if not logprobs:
        return UNSET
    return [_drawn(each) if drawn else _own(each) for each in logprobs]


def _own(each: TokenLogprob) -> Probability:
    top = [_entry(other, logprob=other.logprob) for other in each.top]
    return _entry(each, logprob=each.logprob, top_logprobs=top)


def _drawn(each: TokenLogprob) -> Probability:
    top = [_entry(other, prob=math.exp(other.logprob)) for other in each.top]
    return _entry(each, prob=math.exp(each.logprob), top_probs=top)


def _entry(
    each: TokenLogprob | TopLogprob,
    *,
    logprob: float | UnsetType = UNSET,
    prob: float | UnsetType = UNSET,
    top_logprobs: list[Probability] | UnsetType = UNSET,
    top_probs: list[Probability] | UnsetType = UNSET,
) -> Probability:
    return Probability(
        id=each.token_id,
        token=each.text.decode("utf-8", errors="replace"),
        bytes=list(each.text),
        logprob=logprob,
        top_logprobs=top_logprobs,
        prob=prob,
        top_probs=top_probs,
    )
