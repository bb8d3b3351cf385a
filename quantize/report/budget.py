"""What a byte budget brought, beside the stock types that fit it: lines for a run's report."""

from collections.abc import Sequence
from pathlib import Path

from quantize.budget.artifact import FOLDER, read
from quantize.budget.search import Found
from quantize.measure.measurements import Measurement


def sections(run: Path, entries: Sequence[Measurement]) -> list[str]:
    """Return one section for each budget of a run whose file was measured."""
    lines: list[str] = []
    for path in sorted((run / FOLDER).glob("fit_*.json")):
        found = read(path)
        fitted = next((e for e in entries if e.file.endswith(f"-{path.stem}.gguf")), None)
        if fitted is not None:
            lines += _section(path.stem, found, fitted, entries)
    return lines


def _section(
    label: str, found: Found, fitted: Measurement, entries: Sequence[Measurement]
) -> list[str]:
    """Compare a fitted file with the stock ones that are no larger than its budget."""
    stock = [
        entry
        for entry in entries
        if entry.figures.get("mean_kld_nats") is not None
        and "-fit_" not in entry.file
        and entry.figures["file_bytes"] <= found.target_bytes
    ]
    stock.sort(key=lambda entry: float(entry.figures["mean_kld_nats"]))
    lines = [
        f"## Byte budget {label}: {found.target_bytes:,} bytes",
        "",
        "| file | bytes | of the budget | mean KLD (nats) | top-1 |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(entry, found.target_bytes) for entry in (fitted, *stock)]
    lines += ["", _verdict(fitted, stock), ""]
    return lines


def _row(entry: Measurement, budget: int) -> str:
    figures = entry.figures
    return (
        f"| {entry.file} | {figures['file_bytes']:,} | {figures['file_bytes'] / budget:.1%} | "
        f"{figures['mean_kld_nats']:.4f} | {figures['top1_agreement']:.1%} |"
    )


def _verdict(fitted: Measurement, stock: Sequence[Measurement]) -> str:
    if not stock:
        return "No stock type of this run is as small as the budget."
    best = stock[0]
    ours, theirs = fitted.figures["mean_kld_nats"], best.figures["mean_kld_nats"]
    if theirs <= 0:
        return f"{best.file} does not differ from the reference; there is nothing to gain."
    word = "less" if ours < theirs else "no less"
    return (
        f"The searched types lose {word} than the best stock type measured within the budget "
        f"({best.file}): {ours / theirs:.2f} times its KLD."
    )
