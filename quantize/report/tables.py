"""The report of a run, from what was measured; measures nothing itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantize.measure import pass_at_1
from quantize.measure.measurements import Measurement
from quantize.report import plot
from quantize.report.adapter_compare import section as adapter_section
from quantize.report.budget import sections
from quantize.report.recommend import Recommendation
from quantize.run import write_atomically

TABLE, PLOT = "report.md", "report.png"
_QUALITY = (
    "file",
    "MB",
    "bits/weight",
    "types held",
    "perplexity ratio",
    "mean KLD (nats)",
    "99% KLD",
    "max KLD",
    "top-1",
    "KLD on text",
)
_SPEED = (
    "file",
    "prefill tok/s",
    "decode tok/s",
    "lowest to highest",
    "by rows at once",
    "load (s)",
    "resident MB",
)
_KV = ("KV cache", "mean KLD (nats)", "top-1", "prefill tok/s", "decode tok/s", "resident MB")


def write(
    run: Path,
    known: Sequence[Measurement],
    machine_id: str,
    *,
    recommendation: Recommendation | None,
    quantized_from: str | None,
) -> None:
    """Write report.md, and report.png when this machine has figures."""
    here = [entry for entry in whole(known) if entry.machine.get("id") == machine_id]
    lines = [f"# Quantized files of {run.name}", ""]
    if quantized_from:
        lines += [_grid_warning(quantized_from), ""]
    for machine, entries in _by_machine(whole(known), machine_id):
        lines += _section(machine, entries, here=machine.get("id") == machine_id)
    lines += sections(run, here)
    lines += adapter_section(run)
    if recommendation is not None:
        chosen = recommendation.file or "none"
        lines += [f"Recommended: **{chosen}**: {recommendation.reason}.", ""]
    if here:
        front = recommendation.pareto_front if recommendation else ()
        plot.draw(run / PLOT, here, front)
        if front:
            lines += [f"No file beats these in both bytes and distance: {', '.join(front)}.", ""]
        lines += [f"![bytes against distance and speed]({PLOT})", ""]
    write_atomically(run / TABLE, "\n".join(lines).encode())


def whole(known: Sequence[Measurement]) -> list[Measurement]:
    """Return the measurements that were not interrupted."""
    return [entry for entry in known if "decode_tokens_per_second" in entry.figures]


def table(entries: Sequence[Measurement]) -> list[str]:
    """Return the Markdown tables of one machine's figures: quality, speed, KV caches, problems."""
    lines = _markdown(_QUALITY, [_quality_row(entry) for entry in entries])
    lines += ["", *_markdown(_SPEED, [_speed_row(entry) for entry in entries])]
    for entry in entries:
        rows = _kv_rows(entry)
        if rows:
            title = f"KV cache types against f16, on {entry.file}:"
            lines += ["", title, "", *_markdown(_KV, rows)]
    solved = pass_at_1.table(entries)
    return [*lines, "", *solved] if solved else lines


def _quality_row(entry: Measurement) -> list[str]:
    figures = entry.figures
    shares = figures["type_shares"].items()
    return [
        entry.file,
        f"{figures['file_bytes'] / 1e6:.1f}",
        f"{figures['bits_per_weight']:.2f}",
        ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005),
        _ratio(figures),
        _optional(figures, "mean_kld_nats", ".4f"),
        _optional(figures, "p99_kld_nats", ".3f"),
        _optional(figures, "max_kld_nats", ".2f"),
        _optional(figures, "top1_agreement", ".1%"),
        _optional(figures, "text_mean_kld_nats", ".4f"),
    ]


def _ratio(figures: dict[str, Any]) -> str:
    if figures.get("perplexity_ratio") is None:
        return f"1 (perplexity {figures['perplexity']:.3f})"
    return f"{figures['perplexity_ratio']:.4f} ± {figures['perplexity_ratio_error']:.4f}"


def _speed_row(entry: Measurement) -> list[str]:
    figures = entry.figures
    sizes = figures["decode_tokens_per_second_by_rows"].items()
    low, high = (figures[f"decode_tokens_per_second_{end}"] for end in ("low", "high"))
    return [
        entry.file,
        f"{figures['prefill_tokens_per_second']:.0f}",
        f"{figures['decode_tokens_per_second']:.1f}",
        f"{low:.1f} to {high:.1f}",
        ", ".join(f"{size}: {rate:.0f}" for size, rate in sizes),
        f"{figures['load_seconds']:.2f}",
        _megabytes(figures.get("resident_bytes")),
    ]


def _kv_rows(entry: Measurement) -> list[list[str]]:
    rows = []
    for name, figures in entry.figures.get("kv_cache", {}).items():
        if "refused" in figures:
            rows.append([name, "refused by llama.cpp", "", "", "", ""])
            continue
        rows.append(
            [
                name,
                f"{figures['mean_kld_nats']:.5f}",
                f"{figures['top1_agreement']:.1%}",
                f"{figures['prefill_tokens_per_second']:.0f}",
                f"{figures['decode_tokens_per_second']:.1f}",
                _megabytes(figures.get("resident_bytes")),
            ]
        )
    return rows


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


def _megabytes(value: int | None) -> str:
    return "not told" if value is None else f"{value / 1e6:.0f}"


def _optional(figures: dict[str, Any], key: str, form: str) -> str:
    value = figures.get(key)
    return "reference" if value is None else format(value, form)


def _section(machine: dict[str, Any], entries: Sequence[Measurement], *, here: bool) -> list[str]:
    where = "this machine" if here else "another machine"
    title = f"## Measured on {where}: {machine['cpu']}, {machine['num_cores']} cores"
    return [title, "", *table(entries), "", _note(entries[0]), ""]


def _note(entry: Measurement) -> str:
    """Say what the figures are taken on."""
    figures, settings = entry.figures, entry.settings
    counts = [figures.get("num_scored_tokens"), figures.get("text_num_scored_tokens")]
    texts = [
        f"{count} tokens of {text['kind']} ({text['ref']}, SHA-256 {text['sha256'][:8]})"
        for count, text in zip(counts, settings["texts"], strict=False)
    ]
    return (
        f"Distances are from the first file, over {' and, on text, '.join(texts)}. Each rate is "
        f"the median of {figures['num_timings']} timings, in turns with the other files; resident "
        f"memory is that of a process with {figures['resident_context_tokens']} tokens of context "
        "and nothing else, loaded from the page cache."
    )


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
