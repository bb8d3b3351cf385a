"""The data report: what was found, what was kept out, how long it is, and what carries loss.

Writes Markdown and JSON for files, colours for a terminal. Knows no model.
"""

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from finetune.data.examples import Dataset
from finetune.data.gate import GateReport, describe
from finetune.data.prepare import Prepared
from finetune.data.tokens import IGNORED, Encoded

PERCENTILES = (50, 90, 99, 100)
LEARNT, CONTEXT = "bold green", "dim"


class Lengths(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of examples: all of them, and those that carry loss, by percentile."""

    tokens: dict[str, int]
    learnt_tokens: dict[str, int]
    total_tokens: int
    total_learnt_tokens: int


def lengths_of(rows: Sequence[Encoded]) -> Lengths:
    """Measure encoded examples."""
    whole, learnt = [row.num_tokens for row in rows], [row.num_learnt for row in rows]
    return Lengths(
        tokens=_percentiles(whole),
        learnt_tokens=_percentiles(learnt),
        total_tokens=sum(whole),
        total_learnt_tokens=sum(learnt),
    )


def _percentiles(values: Sequence[int]) -> dict[str, int]:
    ranked = sorted(values)
    return {f"p{p}": ranked[max(0, -(-len(ranked) * p // 100) - 1)] for p in PERCENTILES}


def report_json(dataset: Dataset, gate: GateReport, prepared: Prepared) -> dict[str, Any]:
    """Return everything the report says as plain data."""
    return {
        "schema_version": 1,
        "source": {
            "ref": dataset.ref,
            "size_bytes": dataset.size_bytes,
            "licence": dataset.licence,
        },
        "parts": dataset.input_entries(),
        "gate": msgspec.to_builtins(gate),
        "counts": prepared.figures(),
        "train": msgspec.to_builtins(lengths_of(prepared.train.encoded)),
        "heldout": msgspec.to_builtins(lengths_of(prepared.heldout.encoded)),
    }


def report_page(dataset: Dataset, gate: GateReport, prepared: Prepared) -> str:
    """Return the report as Markdown."""
    counts = prepared.figures()
    formats = ", ".join(f"{name} ({count:,} rows)" for name, count in gate.formats.items())
    rows = {
        "source": f"{dataset.ref}, {dataset.size_bytes:,} bytes",
        "licence of the source": dataset.licence or "unknown: set data.licence",
        "format": formats,
        "dropped": describe(gate),
        "too long": f"{counts['num_too_long_examples']:,} dropped, "
        f"{counts['num_truncated_examples']:,} truncated",
        "kept": f"{counts['num_train_examples']:,} to train on, "
        f"{counts['num_heldout_examples']:,} held out",
        "licence notices inside": _counted(gate.licence_notices),
        "secrets": _counted(gate.secrets),
    }
    lines = [f"# Data of {dataset.ref}\n", "| what | found |\n|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in rows.items()]
    lines += ["", "| tokens | " + " | ".join(f"p{p}" for p in PERCENTILES) + " | total |"]
    lines.append("|---|" + "---:|" * (len(PERCENTILES) + 1))
    for name, side in (("train", prepared.train), ("held out", prepared.heldout)):
        lengths = lengths_of(side.encoded)
        lines.append(_length_line(f"{name}, whole", lengths.tokens, lengths.total_tokens))
        learnt = lengths.learnt_tokens
        lines.append(_length_line(f"{name}, learnt", learnt, lengths.total_learnt_tokens))
    lines += _dropped(gate)
    return "\n".join(lines) + "\n"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items()) or "none"


def _length_line(name: str, percentiles: dict[str, int], total: int) -> str:
    cells = [f"{value:,}" for value in percentiles.values()]
    return f"| {name} | " + " | ".join([*cells, f"{total:,}"]) + " |"


def _dropped(gate: GateReport) -> list[str]:
    lines = []
    if gate.contaminated:
        lines.append("\nClose to benchmark problems (share of the problem's word 8-grams):\n")
        lines += [
            f"- {found['benchmark']} {found['problem']}, {found['share']:.0%}: {_named(found)}"
            for found in gate.contaminated
        ]
    if gate.near_duplicates:
        lines.append("\nNear duplicates, dropped for the one that is kept:\n")
        lines += [f"- {found['kept']}: {_named(found)}" for found in gate.near_duplicates]
    if gate.with_secrets:
        lines.append("\nWhat looks like a secret:\n")
        lines += [
            f"- {', '.join(found['kinds'])}: {found['example']}" for found in gate.with_secrets
        ]
    return lines


def _named(found: dict[str, Any]) -> str:
    begins = found["begins"].replace("`", "'")
    return f"{found['example']}, `{begins}`"


def masked_examples(
    rows: Sequence[Encoded], tokenizer: Any, count: int = 3, *, framed: bool = False
) -> list[Any]:
    """Return examples of small, median and large length as rich texts: what carries loss is green.

    `framed` also puts it between ⟦ and ⟧, for where colours are lost. Special tokens are written
    out, so the token that ends an answer is seen inside the loss.
    """
    ranked = sorted(rows, key=lambda row: row.num_tokens)
    median = statistics.median_low(range(len(ranked)))
    places = sorted({0, median, min(len(ranked) - 1, len(ranked) * 9 // 10)})[:count]
    return [_coloured(ranked[place], tokenizer, framed=framed) for place in places]


def _coloured(row: Encoded, tokenizer: Any, *, framed: bool) -> Any:
    from rich.text import Text

    text = Text()
    start = 0
    for end in range(1, row.num_tokens + 1):
        learnt = row.labels[start] != IGNORED
        if end == row.num_tokens or (row.labels[end] != IGNORED) != learnt:
            part = tokenizer.decode(row.input_ids[start:end])
            if learnt and framed:
                part = f"⟦{part}⟧"
            text.append(part, style=LEARNT if learnt else CONTEXT)
            start = end
    return text
