"""Choose a type for each weight so that a file stays within bytes and loses least; pure arithmetic.

Each weight offers options of (bytes, cost). Only those on the lower convex hull of a weight can be
part of an optimal mixture, so the upgrades along all hulls are taken in order of cost saved per
byte; that is the optimum of the relaxed problem. The one or two weights too large for that, such as
an embedding, are tried in every way. What is left over is filled with whatever still fits, so that
the result ends close under the budget.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from quantize.errors import BudgetError

_ALIGNMENT = 32
"""Tensors start on multiples of this many bytes."""
_LARGE_SHARE, _MAX_LARGE = 0.02, 2
"""Weights whose choices differ by more than this share of the budget are tried in every way."""
_FILLED_DRAFTS = 4
"""Of the best drafts, how many are filled up before one is taken."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one way to store a weight."""

    type_name: str
    num_bytes: int
    cost: float


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """Say what was chosen by weight name, and what it comes to."""

    types: dict[str, str]
    num_bytes: int
    cost: float


def padded(num_bytes: int) -> int:
    """Return the bytes a tensor takes in a file."""
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT


def allocate(offers: Mapping[str, Sequence[Choice]], capacity: int) -> Allocation:
    """Return the choice of least cost within `capacity` bytes.

    Raises:
        BudgetError: when the smallest choice everywhere is larger, with that size.
    """
    smallest = sum(min(choices, key=_by_size).num_bytes for choices in offers.values())
    if smallest > capacity:
        raise BudgetError(
            f"the smallest choice of types takes {smallest} bytes, {capacity} are left"
        )
    corners = {name: hull(offers[name]) for name in sorted(offers)}
    drafts = [_climbed(tried, capacity) for tried in _with_large_fixed(corners, capacity)]
    possible = sorted((draft for draft in drafts if draft is not None), key=_total_cost)
    for draft in possible[:_FILLED_DRAFTS]:
        _fill(offers, draft, capacity - sum(choice.num_bytes for choice in draft.values()))
    chosen = min(possible[:_FILLED_DRAFTS], key=_total_cost)
    return Allocation(
        types={name: choice.type_name for name, choice in chosen.items()},
        num_bytes=sum(choice.num_bytes for choice in chosen.values()),
        cost=_total_cost(chosen),
    )


def hull(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices on the lower convex hull, by growing bytes and falling cost."""
    kept: list[Choice] = []
    for choice in sorted(choices, key=_by_size):
        if kept and choice.cost >= kept[-1].cost:
            continue
        while len(kept) > 1 and _gain(kept[-2], kept[-1]) <= _gain(kept[-2], choice):
            kept.pop()
        kept.append(choice)
    return kept


def _with_large_fixed(
    corners: Mapping[str, list[Choice]], capacity: int
) -> Iterator[dict[str, list[Choice]]]:
    """Yield the hulls with every combination of the few weights too large to climb in steps.

    One step of an embedding may be more than all that is left when its turn comes, while smaller
    weights have spent on less.
    """
    spans = {name: held[-1].num_bytes - held[0].num_bytes for name, held in corners.items()}
    over = [
        name
        for name in sorted(spans, key=lambda name: spans[name])
        if spans[name] > capacity * _LARGE_SHARE
    ]
    large = over[-_MAX_LARGE:]
    for pick in itertools.product(*(corners[name] for name in large)):
        yield {**corners, **{name: [one] for name, one in zip(large, pick, strict=True)}}


def _climbed(corners: Mapping[str, list[Choice]], capacity: int) -> dict[str, Choice] | None:
    """Take upgrades along the hulls, best first; None where even the lowest do not fit."""
    chosen = {name: held[0] for name, held in corners.items()}
    left = capacity - sum(choice.num_bytes for choice in chosen.values())
    if left < 0:
        return None
    steps = [
        (-_gain(low, high), name, number, low, high)
        for name, held in corners.items()
        for number, (low, high) in enumerate(itertools.pairwise(held))
    ]
    for _, name, _, low, high in sorted(steps, key=lambda step: step[:3]):
        if chosen[name] is low and high.num_bytes - low.num_bytes <= left:
            left -= high.num_bytes - low.num_bytes
            chosen[name] = high
    return chosen


def _fill(offers: Mapping[str, Sequence[Choice]], chosen: dict[str, Choice], left: int) -> None:
    """Spend what is left on single changes that fit, the one that saves most first."""
    while True:
        best: tuple[float, str, Choice] | None = None
        for name in sorted(offers):
            now = chosen[name]
            for choice in offers[name]:
                saved = now.cost - choice.cost
                fits = choice.num_bytes - now.num_bytes <= left
                if fits and saved > 0 and (best is None or saved > best[0]):
                    best = (saved, name, choice)
        if best is None:
            return
        _, name, choice = best
        left -= choice.num_bytes - chosen[name].num_bytes
        chosen[name] = choice


def _total_cost(chosen: Mapping[str, Choice]) -> float:
    return sum(choice.cost for choice in chosen.values())


def _gain(low: Choice, high: Choice) -> float:
    """Return the cost saved per byte; the slope between two corners."""
    return (low.cost - high.cost) / max(1, high.num_bytes - low.num_bytes)


def _by_size(choice: Choice) -> tuple[int, float]:
    return choice.num_bytes, choice.cost
