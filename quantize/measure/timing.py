"""Time the files in turns, and say what the rates are and how far they vary.

A busy moment of the machine then hits all files alike, and shows as spread instead of as a
difference between files.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quantize.config import MeasureConfig
from quantize.measure import speed_probe
from quantize.measure.measurements import Book, Subject
from quantize.measure.speed_probe import Sample, SpeedProbe
from quantize.progress import Steps


def time_in_turns(
    book: Book, subjects: Sequence[Subject], config: MeasureConfig, context: int, steps: Steps
) -> None:
    """Bring every file to the same number of samples, one round after the other."""
    for number in range(config.num_rounds):
        waiting = [each for each in subjects if len(book.entry(each).samples) <= number]
        if not waiting:
            continue
        with steps.step(f"time the files, round {number + 1} of {config.num_rounds}") as draw:
            for done, subject in enumerate(_rotated(waiting, number), start=1):
                samples = [*book.entry(subject).samples, sample(subject.path, config, context)]
                book.add(subject, rates(samples, context), samples)
                draw(done, len(waiting))


def sample(
    path: Path, config: MeasureConfig, context: int, *, kv_type: str = "f16", brief: bool = False
) -> Sample:
    """Time one file in a process of its own; `brief` leaves out all but the first sizes."""
    return speed_probe.run(
        SpeedProbe(
            path=str(path.resolve()),
            context=context,
            kv_type=kv_type,
            prefill_tokens=config.prefill_tokens,
            prefill_rows=config.prefill_rows[:1] if brief else config.prefill_rows,
            decode_tokens=config.decode_tokens,
            decode_sequences=config.decode_sequences[:1] if brief else config.decode_sequences,
        )
    )


def rates(samples: Sequence[Sample], context: int) -> dict[str, Any]:
    """Return the median of each rate and, for those that files compete on, lowest and highest."""
    figures: dict[str, Any] = {
        "num_timings": len(samples),
        "load_seconds": statistics.median(each.load_seconds for each in samples),
        "resident_context_tokens": context,
    }
    resident = [each.resident_bytes for each in samples if each.resident_bytes is not None]
    if resident:
        figures["resident_bytes"] = max(resident)
    for name, tables in (
        ("prefill_tokens_per_second", [each.prefill for each in samples]),
        ("decode_tokens_per_second", [each.decode for each in samples]),
    ):
        first = [next(iter(table.values())) for table in tables]
        figures[name] = statistics.median(first)
        figures[f"{name}_low"], figures[f"{name}_high"] = min(first), max(first)
        sizes = {size for table in tables for size in table}
        figures[f"{name}_by_rows"] = {
            str(size): statistics.median(table[size] for table in tables if size in table)
            for size in sorted(sizes)
        }
    return figures


def _rotated(subjects: Sequence[Subject], number: int) -> list[Subject]:
    """Return the files with another one first each round."""
    first = number % len(subjects)
    return [*subjects[first:], *subjects[:first]]
