"""From measurements to what one compares: percentiles, goodput, errors. Numbers only."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.bench.load import Measured


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds that half, 90%, 95% and 99% of the cases stayed within."""

    p50: float
    p90: float
    p95: float
    p99: float


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """What a user puts up with, in seconds."""

    first_token_seconds: float = 2.0
    inter_token_seconds: float = 0.2


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One group of requests.

    `goodput_per_second` counts answers that stayed within the bound. A spread is None where
    nothing was measured.
    """

    label: str
    num_requests: int
    num_answered: int
    errors: dict[str, int]
    first_token_seconds: Spread | None
    inter_token_seconds: Spread | None
    total_seconds: Spread | None
    tokens_per_second: float
    requests_per_second: float
    goodput_per_second: float


def summarize(measured: Sequence[Measured], wall_seconds: float, bound: Bound) -> list[Summary]:
    """Summarize each label, and all of them together where there are several."""
    labels = sorted({item.label for item in measured})
    groups = {label: [m for m in measured if m.label == label] for label in labels}
    if len(groups) > 1:
        groups["all"] = list(measured)
    return [_summary(label, group, wall_seconds, bound) for label, group in groups.items()]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _summary(label: str, group: Sequence[Measured], wall_seconds: float, bound: Bound) -> Summary:
    answered = [item for item in group if item.error is None]
    return Summary(
        label=label,
        num_requests=len(group),
        num_answered=len(answered),
        errors=dict(Counter(item.error for item in group if item.error)),
        first_token_seconds=_spread([m.piece_seconds[0] for m in answered if m.piece_seconds]),
        inter_token_seconds=_spread([gap for m in answered for gap in _gaps(m)]),
        total_seconds=_spread([m.total_seconds for m in answered]),
        tokens_per_second=round(sum(m.num_tokens for m in answered) / wall_seconds, 2),
        requests_per_second=round(len(answered) / wall_seconds, 3),
        goodput_per_second=round(sum(_is_good(m, bound) for m in answered) / wall_seconds, 3),
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    p50, p90, p95, p99 = (round(percentile(values, percent), 4) for percent in (50, 90, 95, 99))
    return Spread(p50=p50, p90=p90, p95=p95, p99=p99)


def _gaps(item: Measured) -> list[float]:
    return [after - before for before, after in itertools.pairwise(item.piece_seconds)]


def _is_good(item: Measured, bound: Bound) -> bool:
    if not item.piece_seconds or item.piece_seconds[0] > bound.first_token_seconds:
        return False
    gaps = _gaps(item)
    return not gaps or statistics.fmean(gaps) <= bound.inter_token_seconds
