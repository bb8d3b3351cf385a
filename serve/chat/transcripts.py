"""The ids of conversations as they were generated, for when they come back as text.

A model may write a text in other tokens than a tokenizer makes of it, and then nothing that was
read for the answer serves the next turn. So what was said is remembered, text and ids, and a text
that goes on from it begins with the same ids. Knows no HTTP and no cells.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHARS = 4 * 2**20  # about a million tokens, 4 bytes each
MAX_TEXTS = 128
_INT32 = "i"


class Tokenizer(Protocol):
    """What is asked of the engine."""

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Encode."""

    def token_bytes(self, token_id: int) -> bytes:
        """Return one token as it reads."""

    def is_control(self, token_id: int) -> bool:
        """Say whether a token is a mark and no text."""


class _Said(NamedTuple):
    scope: str
    text: str
    token_ids: array[int]


class Transcripts:
    """Texts of one model and their ids, those used last; for any thread."""

    def __init__(self, tokenizer: Tokenizer, *, max_chars: int = MAX_CHARS) -> None:
        self._tokenizer = tokenizer
        self._max_chars = max_chars
        self._said: OrderedDict[tuple[str, str], array[int]] = OrderedDict()
        self._asked: OrderedDict[bytes, str] = OrderedDict()
        self._lock = threading.Lock()

    def tokenize(self, text: str, scope: str, *, add_special: bool) -> list[int]:
        """Encode a rendered prompt; what `scope` has had answered begins with the ids it had."""
        said = self._longest(text, scope)
        token_ids = self._continued(said, text) if said else None
        if token_ids is None:
            token_ids = self._tokenizer.tokenize(text, add_special=add_special, parse_special=True)
        with self._lock:
            self._asked[_key(token_ids)] = text
            _shorten(self._asked)
        return token_ids

    def note(self, prompt_ids: Sequence[int], answer_ids: Sequence[int], scope: str) -> None:
        """Remember an answer to a prompt that was encoded here."""
        with self._lock:
            prompt = self._asked.get(_key(prompt_ids))
        if prompt is None or not answer_ids:
            return
        ids = list(answer_ids)
        if self._tokenizer.is_control(ids[-1]):
            ids.pop()  # a template may close the turn with another mark
        try:
            answer = b"".join(map(self._tokenizer.token_bytes, ids)).decode()
        except UnicodeDecodeError:  # cut within a character: no text begins like that
            return
        with self._lock:
            self._said[scope, prompt + answer] = array(_INT32, [*prompt_ids, *ids])
            _shorten(self._said)
            while sum(len(text) for _, text in self._said) > self._max_chars:
                self._said.popitem(last=False)

    def _longest(self, text: str, scope: str) -> _Said | None:
        with self._lock:
            known = [said for whose, said in self._said if whose == scope and text.startswith(said)]
            if not known:
                return None
            key = scope, max(known, key=len)
            self._said.move_to_end(key)
            return _Said(*key, self._said[key])

    def _continued(self, said: _Said, text: str) -> list[int] | None:
        """Append the ids of the rest, if it begins with a mark: words could join up otherwise."""
        rest = text[len(said.text) :]
        if not rest:
            return list(said.token_ids)
        more = self._tokenizer.tokenize(rest, add_special=False, parse_special=True)
        if not more or not self._tokenizer.is_control(more[0]):
            return None
        mark = self._tokenizer.token_bytes(more[0])
        return [*said.token_ids, *more] if rest.encode().startswith(mark) else None


def _key(token_ids: Sequence[int]) -> bytes:
    return array(_INT32, token_ids).tobytes()


def _shorten(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > MAX_TEXTS:
        kept.popitem(last=False)
