"""`samples.jsonl`: what a model answered, one line an answer; and the verdicts beside it.

A line needs `task_id` and `completion`; anyone may write such a file. Lines are appended as they
come, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from clients.errors import UsageError
from clients.evaluate.sandbox import Outcome  # noqa: TC001  # msgspec reads it at run time
from clients.evaluate.solutions import Mode  # noqa: TC001  # as above

if TYPE_CHECKING:
    from pathlib import Path

Row = TypeVar("Row")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as the model gave it. `settings` tells runs of other settings apart."""

    task_id: str
    completion: str
    sample: int = 0
    mode: Mode = "completion"
    finish_reason: str | None = None
    model: str | None = None
    settings: str | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on one sample. `sandbox` is the mechanism that held it."""

    task_id: str
    sample: int
    outcome: Outcome
    detail: str
    seconds: float
    sandbox: str


def append(file: Path, row: Sample | Result) -> None:
    """Add one line, whole or not at all as far as the system allows."""
    with file.open("ab") as out:
        out.write(msgspec.json.encode(row) + b"\n")


def read(file: Path, row_type: type[Row]) -> list[Row]:
    """Read every whole line; a last one without its end was cut by an interruption and is dropped.

    Raises:
        UsageError: a line is not a row; says which and why.
    """
    try:
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    rows = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        is_last = number == text.count(b"\n") + 1
        if not line.strip():
            continue
        try:
            rows.append(msgspec.json.decode(line, type=row_type))
        except msgspec.DecodeError as error:
            if is_last:
                break
            raise UsageError(f"{file}, line {number}: {error}") from None
    return rows


def resume(file: Path, settings: str) -> list[Sample]:
    """Return the samples of an earlier start with the same settings; mend a line cut short.

    Raises:
        UsageError: the file was begun with other settings.
    """
    if not file.exists():
        return []
    found = read(file, Sample)
    other = next((item.settings for item in found if item.settings != settings), None)
    if other is not None:
        raise UsageError(
            f"{file} was begun with other settings ({other}, now {settings}); "
            "give another --samples file"
        )
    if not file.read_bytes().endswith(b"\n"):
        partial = file.with_name(file.name + ".partial")
        partial.write_bytes(b"".join(msgspec.json.encode(item) + b"\n" for item in found))
        partial.replace(file)
    return found
