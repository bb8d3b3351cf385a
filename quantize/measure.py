"""Measure the files of a run on this machine, and keep what was measured before.

A figure belongs to a file's hash, a machine and the settings; it is reused where all three agree
and never otherwise. Files are measured one after the other and each result is written at once.
"""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from quantize.config import MeasureConfig, to_dict
from quantize.digest import sha256_file
from quantize.errors import RunError
from quantize.examples import (
    ScoredText,
    TextRef,
    example_texts,
    plain_texts,
    python_source,
    read_examples,
    text_file,
)
from quantize.gguf_header import read_header
from quantize.inspect_gguf import contents
from quantize.llama_cpp_source import pin
from quantize.llama_session import LlamaSession, system_info
from quantize.machine import identity
from quantize.perplexity import StoredReference, score, score_reference
from quantize.progress import Steps
from quantize.run import SCHEMA_VERSION, write_json
from quantize.throughput import measure_throughput

FILE = "measurements.json"


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


def measure(
    run: Path,
    subjects: Sequence[Subject],
    heldout: Path | None,
    config: MeasureConfig,
    steps: Steps,
) -> list[Measurement]:
    """Measure what is not known yet on this machine; return this machine's figures in order."""
    machine, kept = machine_record(), read(run)
    texts, reference_text = _texts(subjects[0].path, heldout, config)
    settings = _settings(config, reference_text, subjects[0].sha256)
    known = {
        entry.file_sha256: entry
        for entry in kept
        if entry.machine.get("id") == machine["id"] and entry.settings == settings
    }
    if all(subject.sha256 in known for subject in subjects):
        return [known[subject.sha256] for subject in subjects]
    done: list[Measurement] = []
    with contextlib.ExitStack() as stack:
        reference: StoredReference | None = None
        for subject in subjects:
            with steps.step(f"measure {subject.path.name}"):
                figures, scored = _figures(subject.path, texts, config, reference)
            if reference is None:
                reference = scored
                stack.callback(scored.close)
            entry = Measurement(
                file=subject.path.name,
                file_sha256=subject.sha256,
                machine=machine,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                settings=settings,
                figures=figures,
            )
            done.append(entry)
            kept = [other for other in kept if not _replaces(entry, other)] + [entry]
            write_json(run / FILE, _Document(schema_version=SCHEMA_VERSION, measurements=kept))
    return done


def _replaces(entry: Measurement, other: Measurement) -> bool:
    return other.file_sha256 == entry.file_sha256 and other.machine.get("id") == entry.machine["id"]


def _settings(config: MeasureConfig, text: TextRef, reference_sha256: str) -> dict[str, Any]:
    return {
        **{key: value for key, value in to_dict(config).items() if key != "text"},
        "text": msgspec.to_builtins(text),
        "reference_sha256": reference_sha256,
        "llama_cpp_commit": pin().llama_cpp_commit,
    }


def _texts(
    model: Path, heldout: Path | None, config: MeasureConfig
) -> tuple[list[ScoredText], TextRef]:
    """Choose the text: a named file, else held-out examples, else Python's own source."""
    template = read_header(model).text("tokenizer.chat_template")
    with LlamaSession(model, n_ctx=16, n_batch=16) as session:
        if heldout is None or config.text or template is None:
            text, ref = text_file(Path(config.text)) if config.text else python_source()
            return plain_texts(
                session,
                text,
                scored_tokens=config.scored_tokens,
                max_example_tokens=config.max_example_tokens,
            ), ref
        texts = example_texts(
            session,
            template,
            read_examples(heldout),
            scored_tokens=config.scored_tokens,
            max_example_tokens=config.max_example_tokens,
            names=session.special_names(),
        )
    return texts, TextRef(kind="heldout_examples", ref=heldout.name, sha256=sha256_file(heldout))


def _figures(
    path: Path, texts: list[ScoredText], config: MeasureConfig, reference: StoredReference | None
) -> tuple[dict[str, Any], StoredReference]:
    n_ctx = max(config.max_example_tokens, config.prefill_tokens + config.decode_tokens) + 1
    with LlamaSession(path, n_ctx=n_ctx, n_batch=config.n_batch) as session:
        if reference is None:
            quality, reference = score_reference(session, texts)
        else:
            quality = score(session, texts, reference)
        speed = measure_throughput(
            session, prefill_tokens=config.prefill_tokens, decode_tokens=config.decode_tokens
        )
    parts = (contents(path), quality, speed)
    return {key: value for part in parts for key, value in to_dict(part).items()}, reference
