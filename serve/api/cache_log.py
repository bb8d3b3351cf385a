"""GET /debug/cache: of the last prompts, how much was read before, and why not more.

Off by default (`api.debug_cache`): it keeps prompts, and looking costs a millisecond or so a
request. Whoever asks sees what came with the same API key.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from serve.engine.prefix import common_prefix_length
from serve.engine.prefix_cache import MIN_TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from serve.engine.request import AdapterMix

    class Reader(Protocol):
        """What is asked of the engine."""

        def num_ready(
            self, token_ids: Sequence[int], *, scope: str = "", adapters: AdapterMix = ()
        ) -> int:
            """Count the leading tokens that need not be read."""

        def detokenize(self, token_ids: Sequence[int], *, special: bool = True) -> str:
            """Decode."""


MAX_PROMPTS = 32
_SHOWN_TOKENS = 8


class Why(enum.StrEnum):
    """What kept the rest from being ready."""

    ALL_READY = "all of it but the last token was ready"
    FIRST = "nothing that begins like it was read before"
    TEXT_DIFFERS = "the text differs from what was read before"
    TOKENS_DIFFER = "the text is the same in other tokens"
    FORGOTTEN = "more of it was read before, and its cells have gone since"
    ADAPTERS_DIFFER = "more of it was read with other adapters"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """The first token that differs: its place, what stands before it, and both goings-on."""

    position: int
    before: str
    known: str
    asked: str
    known_token_id: int
    asked_token_id: int


class Lookup(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt; `num_shared` tokens are those of an earlier one, of which some may have gone."""

    request_id: str
    num_prompt_tokens: int
    num_ready: int
    num_shared: int
    why: Why
    first_difference: Difference | None = None


class _Known(msgspec.Struct, frozen=True):
    scope: str
    adapters: AdapterMix
    token_ids: Sequence[int]


class CacheLog:
    """The last prompts of one model, of every key; not for several threads."""

    def __init__(self, engine: Reader) -> None:
        self._engine = engine
        self._known: deque[_Known] = deque(maxlen=MAX_PROMPTS)
        self._lookups: deque[tuple[str, Lookup]] = deque(maxlen=MAX_PROMPTS)

    def look_up(
        self, token_ids: Sequence[int], scope: str, adapters: AdapterMix, request_id: str
    ) -> None:
        """Note what is ready of a prompt that is about to be submitted."""
        asked = list(token_ids)
        ready = self._engine.num_ready(asked, scope=scope, adapters=adapters)
        mine = [each for each in self._known if each.scope == scope]
        same = [each for each in mine if each.adapters == adapters]
        nearest = max(same, key=lambda each: _shared(each, asked), default=None)
        elsewhere = max((_shared(each, asked) for each in mine), default=0)
        shared = _shared(nearest, asked) if nearest is not None else 0
        difference = self._difference(nearest, asked, shared) if nearest and shared else None
        lookup = Lookup(
            request_id=request_id,
            num_prompt_tokens=len(asked),
            num_ready=min(ready, len(asked) - 1),
            num_shared=max(shared, ready),
            why=_why(len(asked), ready, shared, elsewhere, difference),
            first_difference=difference,
        )
        self._lookups.append((scope, lookup))
        self._known.append(_Known(scope, adapters, asked))

    def note(self, token_ids: Sequence[int], scope: str, adapters: AdapterMix) -> None:
        """Add the answer to its prompt."""
        self._known.append(_Known(scope, adapters, list(token_ids)))

    def lookups(self, scope: str) -> list[Lookup]:
        """Return those of a key, the last first."""
        return [lookup for whose, lookup in reversed(self._lookups) if whose == scope]

    def _difference(self, nearest: _Known, asked: list[int], at: int) -> Difference | None:
        known = nearest.token_ids
        if at >= min(len(known), len(asked)):
            return None
        text = self._engine.detokenize
        return Difference(
            position=at,
            before=text(asked[max(at - _SHOWN_TOKENS, 0) : at]),
            known=text(known[at : at + _SHOWN_TOKENS]),
            asked=text(asked[at : at + _SHOWN_TOKENS]),
            known_token_id=known[at],
            asked_token_id=asked[at],
        )


def _shared(known: _Known, asked: list[int]) -> int:
    return common_prefix_length(known.token_ids, asked)


def _why(num: int, ready: int, shared: int, elsewhere: int, difference: Difference | None) -> Why:
    if ready >= num - 1:
        return Why.ALL_READY
    if elsewhere >= max(shared, ready) + MIN_TOKENS:
        return Why.ADAPTERS_DIFFER
    if shared >= ready + MIN_TOKENS:
        return Why.FORGOTTEN
    if difference is None:
        return Why.TEXT_DIFFERS if ready else Why.FIRST
    length = min(len(difference.known), len(difference.asked))
    is_same = difference.known[:length] == difference.asked[:length]
    return Why.TOKENS_DIFFER if is_same else Why.TEXT_DIFFERS
