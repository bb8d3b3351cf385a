"""The plot of a run: bytes against distance from the reference, coloured by speed."""

from collections.abc import Sequence
from pathlib import Path

from quantize.measure.measurements import Measurement


def draw(path: Path, entries: Sequence[Measurement], front: Sequence[str]) -> None:
    """Draw the files of one machine and the front that no file beats."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = {
        entry.file: (entry.figures["file_bytes"] / 1e6, entry.figures.get("mean_kld_nats") or 0.0)
        for entry in entries
    }
    speeds = [entry.figures["decode_tokens_per_second"] for entry in entries]
    line = [places[name] for name in front if name in places]
    if line:
        axes.step(*zip(*line, strict=True), where="post", color="0.7", label="Pareto front")
        axes.legend(loc="upper right")
    sizes, distances = zip(*places.values(), strict=True)
    points = axes.scatter(sizes, distances, c=speeds, cmap="viridis", s=70, zorder=2)
    for name, place in places.items():
        label = name.removesuffix(".gguf").rpartition("-")[2]
        axes.annotate(label, place, textcoords="offset points", xytext=(6, 6))
    axes.set_xlabel("file size (MB)")
    axes.set_ylabel("mean KLD from the reference (nats, lower is better)")
    axes.margins(0.12)
    figure.colorbar(points, label="decode (tokens/s)")
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(path)
