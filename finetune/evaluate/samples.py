"""`samples.jsonl`: one answer a line, in the form that any evaluator scores (docs/artifacts.md).

Lines are appended as they come, so generation that was cut short goes on. Knows no model.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from finetune.errors import EvaluationError
from finetune.evaluate.prompts import Mode


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One answer; `finish_reason` is `stop` when the model ended it itself, else `length`."""

    task_id: str
    completion: str
    sample: int = 0
    mode: Mode = "chat"
    finish_reason: str | None = None
    model: str | None = None
    settings: str | None = None


def append(file: Path, samples: Iterable[Sample]) -> None:
    """Add lines to the file."""
    with file.open("ab") as stream:
        stream.write(b"".join(msgspec.json.encode(sample) + b"\n" for sample in samples))


def read(file: Path, settings: str) -> list[Sample]:
    """Return the answers given so far with these settings; a line cut short is removed.

    Raises:
        EvaluationError: the file holds answers of other settings, or something else.
    """
    if not file.is_file():
        return []
    whole, _, rest = file.read_bytes().rpartition(b"\n")
    try:
        found = [msgspec.json.decode(line, type=Sample) for line in whole.splitlines()]
    except msgspec.DecodeError as error:
        raise EvaluationError(f"{file} holds a line that is no sample: {error}") from error
    other = next((sample.settings for sample in found if sample.settings != settings), None)
    if other is not None:
        raise EvaluationError(
            f"{file} was begun with other settings ({other}; now {settings}); remove it or give "
            "another --output"
        )
    if rest:
        partial = file.with_name(file.name + ".partial")
        partial.write_bytes(whole + b"\n" if whole else b"")
        partial.replace(file)
    return found
