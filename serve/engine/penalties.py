"""Changes to logits before a token is chosen: bias and the three penalties.

Numpy only; knows neither llama_cpp nor sequences.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from serve.engine.request import SamplingParams

Logits = npt.NDArray[np.float32]


class Bias:
    """Adds a constant to some logits; minus infinity bans a token."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._token_ids = np.fromiter(bias.keys(), np.int64, len(bias))
        self._values = np.fromiter(bias.values(), np.float32, len(bias))

    def apply(self, logits: Logits) -> None:
        """Change `(n_vocab,) float32` logits in place."""
        logits[self._token_ids] += self._values


class Penalties:
    """Makes tokens that came before less likely.

    Frequency and presence count the tokens generated so far, as OpenAI defines them. The repeat
    penalty looks at the last `repeat_last_n` tokens, the prompt's included (0 for none, -1 for
    all), and divides positive logits and multiplies negative ones, as llama.cpp defines it.
    """

    def __init__(self, params: SamplingParams, prompt_token_ids: Sequence[int]) -> None:
        self._params = params
        self._counts: collections.Counter[int] = collections.Counter()
        window = params.repeat_last_n if params.repeat_last_n >= 0 else None
        self._recent: collections.deque[int] = collections.deque(prompt_token_ids, window)

    @staticmethod
    def wanted(params: SamplingParams) -> bool:
        """Say whether any penalty has an effect."""
        return (
            params.frequency_penalty != 0
            or params.presence_penalty != 0
            or params.repeat_penalty != 1
        )

    def accept(self, token_id: int) -> None:
        """Count a generated token."""
        self._counts[token_id] += 1
        self._recent.append(token_id)

    def apply(self, logits: Logits) -> None:
        """Change `(n_vocab,) float32` logits in place."""
        if self._params.repeat_penalty != 1 and self._recent:
            ids = _index(set(self._recent))
            values = logits[ids]
            factor = np.float32(self._params.repeat_penalty)
            logits[ids] = np.where(values > 0, values / factor, values * factor)
        if self._counts:
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            penalty = counts * np.float32(self._params.frequency_penalty)
            logits[_index(self._counts)] -= penalty + np.float32(self._params.presence_penalty)


def _index(token_ids: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.array(list(token_ids), np.int64)
