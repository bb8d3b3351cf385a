"""What was measured, on disk: read, looked up and replaced; measures nothing.

A figure belongs to a file's hash, a machine and the settings; it is reused where all three agree
and never otherwise.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from quantize.errors import RunError
from quantize.llama.session import system_info
from quantize.machine import identity
from quantize.measure.speed_probe import Sample
from quantize.run import SCHEMA_VERSION, write_json

FILE = "measurements.json"
_BUDGETS = ("scored_tokens", "text_tokens", "rounds", "full")


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Name one GGUF of a run; the first of a list is the reference."""

    path: Path
    sha256: str


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one file's figures on one machine."""

    file: str
    file_sha256: str
    machine: dict[str, Any]
    measured_at: str
    settings: dict[str, Any]
    figures: dict[str, Any]
    samples: tuple[Sample, ...] = ()
    """Each timing that the rates in `figures` are the medians of."""


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    schema_version: int
    measurements: list[Measurement]


def read(run: Path) -> list[Measurement]:
    """Return all measurements kept beside a run.

    Raises:
        RunError: when the file is unreadable or newer than this reader.
    """
    path = run / FILE
    if not path.is_file():
        return []
    try:
        document = msgspec.json.decode(path.read_bytes(), type=_Document)
    except msgspec.MsgspecError as error:
        raise RunError(f"{path} is not readable ({error}); delete it and measure again") from error
    if document.schema_version > SCHEMA_VERSION:
        raise RunError(
            f"{path} has schema_version {document.schema_version}; this reader knows up to "
            f"{SCHEMA_VERSION}"
        )
    return document.measurements


def machine_record() -> dict[str, Any]:
    """Return this machine's record."""
    return identity(system_info())


class Book:
    """Keep the measurements of one run, and write each change at once."""

    def __init__(self, run: Path, settings: dict[str, Any]) -> None:
        self.run = run
        self.settings = settings
        self.machine = machine_record()
        self._kept = read(run)

    def known(self, subject: Subject) -> Measurement | None:
        """Return what this machine has measured of a file with these settings, or more fully."""
        return next(
            (
                entry
                for entry in self._kept
                if entry.file_sha256 == subject.sha256
                and entry.machine.get("id") == self.machine["id"]
                and _covers(entry.settings, self.settings)
            ),
            None,
        )

    def entry(self, subject: Subject) -> Measurement:
        """Return what is known of a file, or an empty entry."""
        return self.known(subject) or Measurement(
            file=subject.path.name,
            file_sha256=subject.sha256,
            machine=self.machine,
            measured_at=_now(),
            settings=self.settings,
            figures={},
        )

    def add(
        self, subject: Subject, figures: dict[str, Any], samples: Sequence[Sample] | None = None
    ) -> None:
        """Add figures, and samples in place of those before, and write."""
        entry = self.entry(subject)
        entry = msgspec.structs.replace(
            entry,
            measured_at=_now(),
            figures=entry.figures | figures,
            samples=entry.samples if samples is None else tuple(samples),
        )
        places = [place for place, other in enumerate(self._kept) if _same(entry, other)]
        if places:
            self._kept[places[0]] = entry
        else:
            self._kept.append(entry)
        write_json(
            self.run / FILE, _Document(schema_version=SCHEMA_VERSION, measurements=self._kept)
        )


def _covers(settings: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Say whether figures with some settings answer for others: a full one for any budget."""
    if settings == wanted:
        return True
    ignored = _BUDGETS if settings.get("full") else ()
    return bool(ignored) and _without(settings, ignored) == _without(wanted, ignored)


def _without(settings: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}


def _same(entry: Measurement, other: Measurement) -> bool:
    return other.file_sha256 == entry.file_sha256 and other.machine.get("id") == entry.machine["id"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
