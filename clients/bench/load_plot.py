"""Draw a load's waiting: which share of the requests had waited no longer than so many seconds.

Knows measurements, and nothing of where they come from.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from clients.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from clients.bench.load import Measured

CHARTS: dict[str, Callable[[Measured], Sequence[float]]] = {
    "first token": lambda one: one.piece_seconds[:1],
    "between tokens": lambda one: [b - a for a, b in itertools.pairwise(one.piece_seconds)],
    "whole answer": lambda one: (one.total_seconds,),
}


def draw(measured: Sequence[Measured], title: str, file: Path) -> None:
    """Write a picture, one line for each kind of request.

    Raises:
        UsageError: matplotlib is missing, or the file cannot be written.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        raise UsageError('--plot needs matplotlib: pip install "edgesmith[bench]"') from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, charts = plt.subplots(1, len(CHARTS), figsize=(12, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=9)
    answered = [one for one in measured if one.error is None]
    for chart, (name, seconds) in zip(charts, CHARTS.items(), strict=True):
        for label in sorted({one.label for one in answered}):
            waits = sorted(w for one in answered if one.label == label for w in seconds(one))
            shares = [100 * (place + 1) / len(waits) for place in range(len(waits))]
            chart.step(waits, shares, where="post", label=label)
        chart.set(xlabel=f"{name}: seconds", ylabel="% within", ylim=(0, 101))
        chart.grid(alpha=0.3)
    if answered:
        charts[0].legend(fontsize=8)
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write the plot {file}: {error}") from None
    finally:
        plt.close(figure)
