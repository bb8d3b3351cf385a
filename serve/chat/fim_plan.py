"""Choose how a gap is laid out: all of it when there is time, else what can be ready in time.

Keeps the anchors of one scope. Knows neither HTTP nor cells: what is ready, and how many tokens
there is time for, is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache

import msgspec

from serve.chat.anchors import Gap, Lack, Liberties, Way, plain, ways
from serve.chat.fim import FimPrompt, FimTokens, Tokenize, lay_out

MAX_ANCHORS = 6
AT_ONCE_TOKENS = 32  # so little is read that nothing better is looked for
MIN_AFTER_TOKENS = 16
MIN_CUT_TOKENS = 256  # around the cursor; with fewer the answers get worse
ENOUGH_TOKENS = 64  # so few are read whatever the wish: cutting would hardly save any
NEAR_TOKENS = 1024  # what the background reads first where little is ready
_CACHED_TEXTS = 64

Ready = Callable[[list[int]], int]


class Laid(msgspec.Struct, frozen=True, kw_only=True):
    """A way as tokens, and how many of them have to be read."""

    way: Way
    prompt: FimPrompt
    num_to_read: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to read now, and what to read when there is time, in this order."""

    now: Laid
    later: tuple[Way, ...] = ()


class FimPlanner:
    """The anchors of one scope. `max_tokens` bounds every prompt; not for several threads."""

    def __init__(
        self, tokens: FimTokens, tokenize: Tokenize, liberties: Liberties, ready: Ready
    ) -> None:
        self.anchors: list[Way] = []
        self._tokens = tokens
        self._tokenize = lru_cache(maxsize=_CACHED_TEXTS)(tokenize)
        self._liberties = liberties
        self._ready = ready

    def plan(self, gap: Gap, *, max_tokens: int | None, budget: int | None = None) -> Plan:
        """Choose; `budget` is how many tokens there is time to read, None for any number.

        Raises:
            NoFimError: the model cannot fill in the middle.
        """
        budget = budget if self._liberties.cut else None
        known: list[Laid] = []
        for way in self._ways(gap):
            laid = self.lay(way, max_tokens)
            known.append(laid)
            if way.lack is Lack.NOTHING and laid.num_to_read <= AT_ONCE_TOKENS:
                break
        whole = min((each for each in known if not each.way.lack), key=_cost)
        now = whole
        if budget is not None and whole.num_to_read > max(budget, AT_ONCE_TOKENS):
            now = self._in_time(gap, known, budget, max_tokens)
        self.remember(now.way)
        return Plan(now=now, later=self._later(now.way, whole.way, gap))

    def _ways(self, gap: Gap) -> Iterator[Way]:
        """Order by what is left out; a sort keeps those first that stay at their anchor."""
        found = sorted(ways(gap, self.anchors, self._liberties), key=lambda way: way.lack)
        yield from (way for way in found if not way.lack)
        yield plain(gap, self._liberties)
        yield from (way for way in found if way.lack)

    def lay(self, way: Way, max_tokens: int | None) -> Laid:
        """Lay a way out."""
        prompt = lay_out(
            self._tokens,
            self._tokenize,
            prefix=way.before,
            suffix=way.after,
            written=way.written,
            extra=way.extra,
            max_tokens=max_tokens,
            order=self._liberties.order,
        )
        num = len(prompt.token_ids) - min(self._ready(prompt.token_ids), len(prompt.token_ids) - 1)
        return Laid(way=way, prompt=prompt, num_to_read=num)

    def _in_time(self, gap: Gap, known: list[Laid], budget: int, max_tokens: int | None) -> Laid:
        """Return what lacks least of all that fits, or the shortest where nothing does."""
        shorter = [
            self._with_less_after(each, max(budget, ENOUGH_TOKENS), max_tokens) for each in known
        ]
        cut = self.lay(self._cut(gap, max(budget, MIN_CUT_TOKENS)), max_tokens)
        laid = [*known, *(each for each in shorter if each is not None), cut]
        fits = [each for each in laid if each.num_to_read <= max(budget, ENOUGH_TOKENS)]
        if fits:
            return min(fits, key=_worth)
        return min(laid, key=_cost)

    def _with_less_after(self, laid: Laid, budget: int, max_tokens: int | None) -> Laid | None:
        """Leave out lines at the end of the suffix until the rest fits, if that can be."""
        num_after = len(self._tokenize(laid.way.after))
        room = max(budget - (laid.num_to_read - num_after), MIN_AFTER_TOKENS)
        if room >= num_after or laid.num_to_read - num_after > budget:
            return None
        after = self._first_lines(laid.way.after, room)
        lack = max(laid.way.lack, Lack.SOME)
        return self.lay(msgspec.structs.replace(laid.way, after=after, lack=lack), max_tokens)

    def _cut(self, gap: Gap, num_tokens: int) -> Way:
        """Return the lines around the cursor, three parts before it to one after."""
        near = Gap(
            before=self._last_lines(gap.before, num_tokens * 3 // 4),
            after=self._first_lines(gap.after, num_tokens // 4),
        )
        return msgspec.structs.replace(plain(near, self._liberties), lack=Lack.MUCH)

    def _first_lines(self, text: str, room: int) -> str:
        """Return as many whole lines as have at most `room` tokens, the first in any case."""
        kept: list[str] = []
        for line in text.splitlines(keepends=True):
            room -= len(self._tokenize(line))
            if room < 0 and any(each.strip() for each in kept):
                break
            kept.append(line)
        return "".join(kept)

    def _last_lines(self, text: str, room: int) -> str:
        kept: list[str] = []
        for line in reversed(text.splitlines(keepends=True)):
            room -= len(self._tokenize(line))
            if room < 0 and any(each.strip() for each in kept):
                break
            kept.append(line)
        return "".join(reversed(kept))

    def _later(self, now: Way, whole: Way, gap: Gap) -> tuple[Way, ...]:
        if not now.lack:
            return ()
        if now.lack is Lack.MUCH:
            return self._cut(gap, NEAR_TOKENS), whole
        return (whole,)

    def remember(self, way: Way) -> None:
        """Note what was read: the next gap may be near it."""
        self.anchors = [way, *(each for each in self.anchors if not each.is_at(way))]
        del self.anchors[MAX_ANCHORS:]


def _worth(laid: Laid) -> tuple[Lack, int]:
    """Order what fits: what lacks least first; of what lacks much, what says most."""
    lack = laid.way.lack
    return lack, -len(laid.prompt.token_ids) if lack is Lack.MUCH else laid.num_to_read


def _cost(laid: Laid) -> int:
    return laid.num_to_read
