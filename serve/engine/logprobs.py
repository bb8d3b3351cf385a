"""Log-probabilities of the unmodified distribution, or of what a token was drawn from.

Numpy only: natural logarithms. The first are over the whole vocabulary, before any bias, penalty or
temperature.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from serve.engine.request import TokenLogprob, TopLogprob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def token_logprob(
    logits: npt.NDArray[np.float32],
    token_id: int,
    num_top: int,
    token_bytes: Callable[[int], bytes],
) -> TokenLogprob:
    """Describe the chosen token and the `num_top` likeliest; `logits` is `(n_vocab,) float32`."""
    log_total = _log_sum_exp(logits)
    top = tuple(
        TopLogprob(i, token_bytes(i), float(logits[i]) - log_total)
        for i in _largest(logits, num_top)
    )
    chosen = float(logits[token_id]) - log_total
    return TokenLogprob(token_id, token_bytes(token_id), chosen, top)


def drawn_logprob(
    chances: Sequence[tuple[int, float]],
    token_id: int,
    num_top: int,
    token_bytes: Callable[[int], bytes],
) -> TokenLogprob:
    """Describe a token by what it was drawn from: ids and probabilities, best first."""
    top = tuple(TopLogprob(i, token_bytes(i), math.log(p)) for i, p in chances[:num_top])
    chosen = math.log(dict(chances)[token_id])
    return TokenLogprob(token_id, token_bytes(token_id), chosen, top)


def _log_sum_exp(logits: npt.NDArray[np.float32]) -> float:
    largest = logits.max()
    return float(largest + np.log(np.exp(logits - largest).sum(dtype=np.float64)))


def _largest(logits: npt.NDArray[np.float32], count: int) -> list[int]:
    """Return the ids of the largest logits, largest first, lower id first among equals."""
    if count <= 0:
        return []
    count = min(count, len(logits))
    best = np.argpartition(logits, len(logits) - count)[len(logits) - count :]
    return [int(i) for i in best[np.lexsort((best, -logits[best]))]]
