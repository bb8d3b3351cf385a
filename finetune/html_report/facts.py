"""What a run's manifest, log and data report say, as rows of text for a page.

Knows the artifacts of docs/artifacts.md. Knows no HTML.
"""

import json
from typing import Any

import msgspec

from finetune.progress import clock
from finetune.report import machine, shown
from finetune.run import Run

Rows = list[tuple[str, str]]


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One figure in large type."""

    name: str
    value: str
    note: str = ""


def tiles_of(metrics: dict[str, Any]) -> list[Tile]:
    """Return the figures a reader wants first."""
    before = metrics["heldout_response_loss_before_nats"]
    after = metrics["heldout_response_loss_after_nats"]
    change = f"{(after - before) / before:+.1%}" if before else ""
    gpu = metrics.get("peak_gpu_memory_bytes")
    memory = gpu or metrics["peak_memory_bytes"]
    return [
        Tile(name="held-out loss", value=f"{before:.3f} → {after:.3f}", note=f"nats, {change}"),
        Tile(
            name="speed",
            value=f"{metrics['train_tokens_per_second']:,.0f}",
            note="tokens per second",
        ),
        Tile(
            name="training time",
            value=clock(metrics["train_seconds"]),
            note=f"{metrics['train_tokens']:,} tokens in {metrics['num_steps']:,} steps",
        ),
        Tile(
            name="peak memory",
            value=f"{memory / 2**30:.1f} GiB",
            note="of the GPU" if gpu else "of the process",
        ),
    ]


def estimates_of(run: Run, metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (figure, estimated, measured) of what was estimated before training."""
    rows = []
    expected = metrics.get("expected_peak_gpu_memory_bytes")
    if expected:
        pair = (expected, metrics["peak_gpu_memory_bytes"])
        rows.append(("peak GPU memory", *(f"{size / 2**30:.1f} GiB" for size in pair)))
    logged = run.events("estimated")
    if logged:
        pair = (logged[-1]["train_seconds"], metrics["train_seconds"])
        rows.append(("training time, m:ss", *(clock(seconds) for seconds in pair)))
        rates = (logged[-1]["tokens_per_second"], metrics["train_tokens_per_second"])
        rows.append(("tokens per second", *(f"{rate:,.0f}" for rate in rates)))
    return [(name, estimated, measured) for name, estimated, measured in rows]


def data_of(run: Run) -> tuple[Rows, list[list[str]]]:
    """Return what the gate found, and a table of lengths with its header first."""
    file = run.path / "data_report" / "report.json"
    if not file.is_file():
        return [], []
    found = json.loads(file.read_text(encoding="utf-8"))
    source, gate, counts = found["source"], found["gate"], found["counts"]
    too_long = (counts["num_too_long_examples"], counts["num_truncated_examples"])
    kept = (counts["num_train_examples"], counts["num_heldout_examples"])
    rows = [
        ("source", f"{source['ref']}, {source['size_bytes']:,} bytes"),
        ("licence", source["licence"] or "unknown"),
        ("formats", _counted(gate["formats"])),
        ("examples found", f"{gate['num_found']:,}"),
        ("exact repeats dropped", f"{gate['num_exact_duplicates']:,}"),
        ("near repeats dropped", f"{gate['num_near_duplicates']:,}"),
        ("close to a benchmark, dropped", f"{gate['num_contaminated']:,}"),
        ("benchmark problems compared with", f"{gate['num_problems']:,}"),
        ("with what looks like a secret", _secrets(gate)),
        ("licence notices inside", _counted(gate["licence_notices"])),
        ("longer than a row", f"{too_long[0]:,} dropped, {too_long[1]:,} truncated"),
        ("trained on, held out", f"{kept[0]:,}, {kept[1]:,}"),
    ]
    return rows, _lengths(found)


def _secrets(gate: dict[str, Any]) -> str:
    fate = "dropped" if gate["secrets_dropped"] else "kept"
    return f"{gate['num_with_secrets']:,} ({fate})"


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items()) or "none"


def _lengths(found: dict[str, Any]) -> list[list[str]]:
    ranks = list(found["train"]["tokens"])
    table = [["tokens an example", *ranks, "total"]]
    for side, name in (("train", "train"), ("heldout", "held out")):
        for kind, label in (("tokens", "whole"), ("learnt_tokens", "learnt")):
            lengths = found[side][kind]
            cells = [f"{lengths[rank]:,}" for rank in ranks]
            table.append([f"{name}, {label}", *cells, f"{found[side][f'total_{kind}']:,}"])
    return table


def origin_of(manifest: dict[str, Any]) -> Rows:
    """Return what made the run: base, machine, versions, commit, seed."""
    base, git = manifest["base_model"], manifest["git"]
    commit = f"{git['commit'] or 'unknown'}{', with uncommitted changes' if git['dirty'] else ''}"
    packages = ", ".join(f"{name} {text}" for name, text in manifest["versions"].items())
    return [
        ("base model", f"{base['ref']} ({base['licence'] or 'licence unknown'})"),
        ("base weights", f"{base['kind']}, sha256 {base['sha256'][:16]}…"),
        ("machine", machine(manifest["hardware"])),
        ("commit", commit),
        ("seed", str(manifest["seed"])),
        ("configuration hash", manifest["config_hash"]),
        ("versions", packages),
    ]


def metrics_of(metrics: dict[str, Any]) -> Rows:
    """Return every figure of the manifest under its own name."""
    return [(name, shown(value)) for name, value in metrics.items() if value is not None]
