"""What was measured, on disk: read, looked up and replaced; measures nothing.

A figure belongs to a file's hash, a machine and those settings that it depends on: words to texts
and reference, rates and memory to what was timed, at which context. It is kept where these agree
and never otherwise.
"""

import re
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
_BUDGETS = ("scored_tokens", "text_tokens", "full")
_EVERY = ("reference_sha256", "llama_cpp_commit", "code")
_WORDS = (*_BUDGETS, "max_example_tokens", "n_batch", "texts", *_EVERY)
_SPEED = ("prefill_tokens", "prefill_rows", "decode_tokens", "decode_sequences", "context_tokens")
_TIMED = re.compile(r"num_timings|load_seconds|resident_|prefill_|decode_")


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

    def entry(self, subject: Subject) -> Measurement:
        """Return what this machine has measured of a file that holds with these settings."""
        found = [entry for entry in self._kept if self._is_of(entry, subject)]
        if found:
            return _still_true(found[0], self.settings)
        return Measurement(
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
        places = [place for place, other in enumerate(self._kept) if self._is_of(other, subject)]
        if places:
            self._kept[places[0]] = entry
        else:
            self._kept.append(entry)
        write_json(
            self.run / FILE, _Document(schema_version=SCHEMA_VERSION, measurements=self._kept)
        )

    def _is_of(self, entry: Measurement, subject: Subject) -> bool:
        here = entry.machine.get("id") == self.machine["id"]
        return here and entry.file_sha256 == subject.sha256


def _still_true(entry: Measurement, settings: dict[str, Any]) -> Measurement:
    """Return an entry under other settings, without what does not hold under them."""
    words, speed = (_agree(entry.settings, settings, keys) for keys in (_WORDS, (*_SPEED, *_EVERY)))
    scored = {key: entry.settings[key] for key in _WORDS if words and key in entry.settings}

    def holds(figure: str) -> bool:
        if figure == "pass_at_1":  # beside it stands what was asked
            return _agree(entry.settings, settings, _EVERY[:2])
        if figure == "kv_cache":
            return words and speed
        return speed if _TIMED.match(figure) else words

    return msgspec.structs.replace(
        entry,
        settings=settings | scored,
        figures={name: value for name, value in entry.figures.items() if holds(name)},
        samples=entry.samples if speed else (),
    )


def _agree(settings: dict[str, Any], wanted: dict[str, Any], keys: Sequence[str]) -> bool:
    """Say whether settings are the same for some keys; a full measurement serves any budget."""
    free = _BUDGETS if settings.get("full") else ()
    return all(settings.get(key) == wanted.get(key) for key in keys if key not in free)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
