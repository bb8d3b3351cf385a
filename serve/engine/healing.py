"""Answers that begin with text that is there already: half a word that someone has typed.

A prompt that ends within a word ends with tokens that no text has there, and a model goes on badly
after them. So the prompt ends before the word, and the tokens that come first are held to those
that spell its beginning; the reader gets what follows. Knows no sampler and no sequence.
"""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Logits = npt.NDArray[np.float32]

_AFTER_ALL = b"\xff" * 8  # behind every text that begins alike: UTF-8 has no such byte
_NUM_SHORTER = 3  # the longest tokens that spell only a part of the word


class Spellings:
    """The texts of a vocabulary in order, sorted at the first question: some 0.3 s."""

    def __init__(self, text_bytes: Callable[[int], bytes], n_vocab: int) -> None:
        self._text_bytes = text_bytes
        self._n_vocab = n_vocab

    @cached_property
    def _sorted(self) -> tuple[list[bytes], list[int]]:
        known = sorted((self._text_bytes(token_id), token_id) for token_id in range(self._n_vocab))
        known = [each for each in known if each[0]]
        return [text for text, _ in known], [token_id for _, token_id in known]

    def beginning(self, rest: bytes) -> list[int]:
        """Return the tokens that may come first in a text that begins with `rest`.

        Those that spell all of it, and more; where none does, the longest that spell a part.
        """
        longer = self._between(rest, rest + _AFTER_ALL)
        if longer:
            return longer
        shorter: list[int] = []
        for length in range(len(rest) - 1, 0, -1):
            if len(shorter) < _NUM_SHORTER:
                shorter += self._between(rest[:length], rest[:length] + b"\x00")
        return shorter

    def _between(self, first: bytes, end: bytes) -> list[int]:
        texts, token_ids = self._sorted
        return token_ids[bisect_left(texts, first) : bisect_left(texts, end)]


class Healing:
    """What of the beginning is still to be spelled, in one answer."""

    def __init__(self, spellings: Spellings, text: str) -> None:
        self._spellings = spellings
        self._rest = text.encode()

    @property
    def is_over(self) -> bool:
        """Say whether all of it was spelled."""
        return not self._rest

    def masked(self, logits: Logits) -> Logits:
        """Return a copy in which only tokens that spell it are possible.

        A vocabulary that cannot spell it leaves the logits as they are, and the text unbegun.
        """
        token_ids = self._spellings.beginning(self._rest)
        if not token_ids:
            self._rest = b""
            return logits
        masked = np.full_like(logits, -np.inf)
        masked[token_ids] = logits[token_ids]
        return masked

    def take(self, data: bytes) -> bytes:
        """Take the next token's bytes and return what of them is new."""
        known = min(len(data), len(self._rest))
        self._rest = self._rest[known:]
        return data[known:]
