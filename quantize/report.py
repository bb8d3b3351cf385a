"""The table and the plot of a run, from what was measured; measures nothing itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantize.budget_report import sections
from quantize.measure import Measurement
from quantize.recommend import Recommendation
from quantize.run import write_atomically

TABLE, PLOT = "report.md", "report.png"
_HEAD = (
    "| file | MB | bits/weight | types held | perplexity | mean KLD (nats) | top-1 | "
    "prefill tok/s | decode tok/s |"
)


def write(
    run: Path,
    known: Sequence[Measurement],
    machine_id: str,
    *,
    recommendation: Recommendation | None,
    quantized_from: str | None,
) -> None:
    """Write report.md, and report.png when this machine has figures."""
    here = [entry for entry in known if entry.machine.get("id") == machine_id]
    lines = [f"# Quantized files of {run.name}", ""]
    if quantized_from:
        lines += [_grid_warning(quantized_from), ""]
    for machine, entries in _by_machine(known, machine_id):
        lines += _section(machine, entries, here=machine.get("id") == machine_id)
    lines += sections(run, here)
    if recommendation is not None:
        chosen = recommendation.file or "none"
        lines += [f"Recommended: **{chosen}**: {recommendation.reason}.", ""]
    if here:
        _plot(run / PLOT, here)
        lines += [f"![bytes against quality and speed]({PLOT})", ""]
    write_atomically(run / TABLE, "\n".join(lines).encode())


def table(entries: Sequence[Measurement]) -> list[str]:
    """Return the Markdown table of one machine's figures."""
    rows = [_HEAD, "|" + "---|" * (_HEAD.count("|") - 1)]
    return rows + [_row(entry) for entry in entries]


def _row(entry: Measurement) -> str:
    figures = entry.figures
    held = ", ".join(f"{name} {share:.0%}" for name, share in figures["type_shares"].items())
    cells = [
        entry.file,
        f"{figures['file_bytes'] / 1e6:.1f}",
        f"{figures['bits_per_weight']:.2f}",
        held,
        f"{figures['perplexity']:.3f} ± {figures['perplexity_error']:.3f}",
        _optional(figures, "mean_kld_nats", ".4f"),
        _optional(figures, "top1_agreement", ".1%"),
        f"{figures['prefill_tokens_per_second']:.0f}",
        f"{figures['decode_tokens_per_second']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _optional(figures: dict[str, Any], key: str, form: str) -> str:
    value = figures.get(key)
    return "reference" if value is None else format(value, form)


def _section(machine: dict[str, Any], entries: Sequence[Measurement], *, here: bool) -> list[str]:
    where = "this machine" if here else "another machine"
    text = entries[0].settings["text"]
    tokens = entries[0].figures["num_scored_tokens"]
    note = (
        f"Perplexity and distances over {tokens} tokens of {text['kind']} ({text['ref']}, SHA-256 "
        f"{text['sha256'][:8]}). Distances are from the first file."
    )
    return [
        f"## Measured on {where}: {machine['cpu']}, {machine['num_cores']} cores",
        "",
        *table(entries),
        "",
        note,
        "",
    ]


def _by_machine(
    known: Sequence[Measurement], machine_id: str
) -> list[tuple[dict[str, Any], list[Measurement]]]:
    groups: dict[str, list[Measurement]] = {}
    for entry in known:
        groups.setdefault(str(entry.machine.get("id")), []).append(entry)
    ordered = sorted(groups, key=lambda key: key != machine_id)
    return [(groups[key][0].machine, groups[key]) for key in ordered]


def _grid_warning(quantized_from: str) -> str:
    return (
        f"**The base model came out of a {quantized_from} file.** Its weights sit on that "
        "quantizer's grid, so types that share the grid look better here than on weights trained "
        "in 16 bits: do not carry this comparison over to another model."
    )


def _plot(path: Path, entries: Sequence[Measurement]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    sizes = [entry.figures["file_bytes"] / 1e6 for entry in entries]
    quality = [entry.figures["perplexity"] for entry in entries]
    speeds = [entry.figures["decode_tokens_per_second"] for entry in entries]
    points = axes.scatter(sizes, quality, c=speeds, cmap="viridis", s=70)
    for entry, x, y in zip(entries, sizes, quality, strict=True):
        axes.annotate(
            entry.file.removesuffix(".gguf").rpartition("-")[2],
            (x, y),
            textcoords="offset points",
            xytext=(6, 6),
        )
    axes.set_xlabel("file size (MB)")
    axes.set_ylabel("perplexity on held-out text (lower is better)")
    axes.margins(0.12)
    figure.colorbar(points, label="decode (tokens/s)")
    temporary = path.with_name(path.name + ".tmp")
    figure.savefig(temporary, format="png", dpi=120)
    temporary.replace(path)
