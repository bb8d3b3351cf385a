"""Draw a comparison: one small chart of bars for each figure. Knows only the result."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from clients.bench.comparison import Comparison
    from clients.bench.standing import Figure

NUM_COLUMNS = 3


def draw(result: Comparison, file: Path) -> bool:
    """Write a PNG; return False where matplotlib is not installed, or nothing was measured."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return False
    if not result.rows:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [peer["name"] for peer in result.peers]
    num_lines = math.ceil(len(result.rows) / NUM_COLUMNS)
    figure, grid = plt.subplots(
        num_lines, NUM_COLUMNS, figsize=(12, 2.4 * num_lines), squeeze=False, layout="constrained"
    )
    charts = list(grid.flat)
    for chart, row in zip(charts, result.rows, strict=False):
        shown = [name for name in names if name in row.cells]
        cells = [row.cells[name] for name in shown]
        below = [cell.median - cell.low for cell in cells]
        above = [cell.high - cell.median for cell in cells]
        colours = [f"C{names.index(name)}" for name in shown]
        medians = [cell.median for cell in cells]
        chart.barh(shown, medians, xerr=(below, above), color=colours, capsize=3)
        chart.invert_yaxis()
        chart.set_title(_title(row.figure), fontsize=8)
        chart.set_xlabel(row.figure.unit, fontsize=8)
        chart.tick_params(labelsize=8)
    for chart in charts[len(result.rows) :]:
        chart.set_visible(False)
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return True


def _title(figure: Figure) -> str:
    """Put what is good into a second line, so that the first fits its chart."""
    good = "" if figure.better == "neither" else f"\n{figure.better} is better"
    return figure.title + good
