"""A prefix that was read once, its tokens and the bytes of its cells, wherever it lies.

Knows neither where it is kept nor how bytes become cells.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence as Many
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    State = npt.NDArray[np.uint8]  # the bytes of one sequence's cells, as the library lays them out

HALF_LIFE_SECONDS = 600.0  # a prefix left for this long is worth half of one left now
REPLACED_SHARE = 8  # one that adds under 1/8 of its length to a newer one gives way to it


class Tier(enum.StrEnum):
    """Where the cells of a prompt came from."""

    RESIDENT = "resident"
    MEMORY = "memory"
    DISK = "disk"


@dataclass(slots=True, eq=False)
class Prefix:
    """Tokens and the saved cells of all of them. A pinned one stays where it is."""

    token_ids: list[int]
    scope: str
    state: State
    used_at: float
    is_pinned: bool = False
    is_written: bool = False

    @property
    def num_bytes(self) -> int:
        """Return what it costs: the cells; token ids are under a thousandth of that."""
        return int(self.state.nbytes)

    def worth(self, now: float) -> float:
        """Return the tokens it saves, less the longer nobody asked."""
        age: float = (now - self.used_at) / HALF_LIFE_SECONDS
        return len(self.token_ids) * float(2.0**-age)


@dataclass(slots=True, eq=False)
class StateFile:
    """One file. `scope` is a digest; of another identity `token_ids` are empty: never matched."""

    path: Path
    num_bytes: int
    used_at: float
    scope: str = ""
    token_ids: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Match:
    """The first `num_tokens` of a prompt are those of `source`; its other cells must be cut."""

    source: Prefix | StateFile
    num_tokens: int
    tier: Tier


def common_prefix_length(left: Many[object], right: Many[object]) -> int:
    """Count equal leading items, tokens or characters, by halving: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    if left[:high] == right[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle
    return low


def covers(held: list[int], token_ids: list[int], *, can_trim: bool) -> bool:
    """Say whether the state of `held` serves wherever that of `token_ids` would."""
    return held[: len(token_ids)] == token_ids if can_trim else held == token_ids


def gives_way(old: list[int], new: list[int], *, can_trim: bool) -> bool:
    """Say whether the old state adds too little to the new one to be kept beside it."""
    rest = len(old) - common_prefix_length(old, new)
    return can_trim and rest * REPLACED_SHARE < len(old)


def scope_digest(scope: str) -> str:
    """Return a name for a scope that may lie in a file: a scope may be a secret."""
    return hashlib.sha256(scope.encode()).hexdigest()[:32]
