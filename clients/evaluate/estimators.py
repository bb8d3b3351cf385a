"""pass@k and what separates two results. Numbers in, numbers out."""

from __future__ import annotations

import math
import random
import statistics
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How much better the second of two results is, on the problems that both have.

    `low` and `high` bound 95% of the bootstrap's differences.
    """

    num_problems: int
    first: float
    second: float
    difference: float
    low: float
    high: float


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """Return the chance that at least one of k drawn samples passes, without bias.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1.
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"k is {k}; it must lie between 1 and the {num_samples} samples")
    return 1.0 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)


def mean_pass_at_k(passes: Mapping[str, Sequence[bool]], k: int) -> float:
    """Return pass@k over problems, each with its samples."""
    return statistics.fmean(pass_at_k(len(made), sum(made), k) for made in passes.values())


def paired_bootstrap(
    first: Mapping[str, Sequence[bool]],
    second: Mapping[str, Sequence[bool]],
    *,
    num_draws: int = 5000,
    seed: int = 0,
) -> Difference:
    """Compare pass@1 of two results by drawing problems with replacement.

    Raises:
        ValueError: they have no problem in common.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError("the two results have no problem in common")
    rates = [(statistics.fmean(first[task]), statistics.fmean(second[task])) for task in shared]
    gains = [after - before for before, after in rates]
    draw = random.Random(seed)  # noqa: S311  # statistics, not secrets
    means = sorted(statistics.fmean(draw.choices(gains, k=len(gains))) for _ in range(num_draws))
    return Difference(
        num_problems=len(shared),
        first=statistics.fmean(before for before, _ in rates),
        second=statistics.fmean(after for _, after in rates),
        difference=statistics.fmean(gains),
        low=means[int(0.025 * num_draws)],
        high=means[min(num_draws - 1, int(0.975 * num_draws))],
    )
