"""Where examples come from: the standard library, a local file, or the hub.

Knows files and identities; the meaning of a row is `rows`' business.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from finetune import hub, licence
from finetune.config import DataConfig
from finetune.data import stdlib_functions
from finetune.data.examples import Dataset, Example
from finetune.data.rows import detect_format, to_example
from finetune.errors import DataError
from finetune.fingerprint import sha256_file, sha256_json


def load_dataset(config: DataConfig) -> Dataset:
    """Read every example of the configured source.

    Raises:
        DataError: missing, malformed or empty data.
        HubError: a hub data set that cannot be fetched.
    """
    loaders = {"stdlib": _load_stdlib, "file": _load_file, "hub": _load_hub}
    dataset = loaders[config.source](config)
    if not dataset.examples:
        raise DataError(f"{dataset.ref} holds no examples: there is nothing to train on")
    return dataset


def _load_stdlib(config: DataConfig) -> Dataset:
    examples = tuple(stdlib_functions.stdlib_examples(config.system_prompt))
    return Dataset(
        ref=stdlib_functions.source_name(),
        sha256=sha256_json([example.id for example in examples]),
        size_bytes=sum(len(turn.content.encode()) for ex in examples for turn in ex.messages),
        licence=stdlib_functions.LICENCE,
        examples=examples,
    )


def _load_file(config: DataConfig) -> Dataset:
    path = Path(config.path or "").expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"data.path {path} cannot be read: {error.strerror}") from error
    return Dataset(
        ref=path.name,
        sha256=sha256_file(path),
        size_bytes=len(content),
        licence=licence.normalise(config.licence),
        examples=tuple(_examples(_decoded(path, content), config)),
    )


def _decoded(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    """Yield (place, row) from a JSON list or from JSON lines."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from error
    if text.lstrip().startswith("["):
        rows = _decode(text, str(path))
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{path}, row {number}"
            yield where, _decode(line, where)


def _decode(text: str, where: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{where} is not JSON ({error}); data files are a .json list of objects or .jsonl"
        ) from error


def _examples(rows: Iterator[tuple[str, Any]], config: DataConfig) -> Iterator[Example]:
    format_name: str = config.format
    for where, row in rows:
        if format_name == "auto":
            format_name = detect_format(row, where)
        yield to_example(row, format_name=format_name, system=config.system_prompt, where=where)


def _load_hub(config: DataConfig) -> Dataset:
    from datasets import load_dataset as load_from_hub
    from datasets.exceptions import DatasetNotFoundError

    name = config.ref or ""
    with hub.explained(name, page=f"{hub.SITE}/datasets/{name}"):
        try:
            table = load_from_hub(name, revision=config.revision, split=config.split)
        except DatasetNotFoundError as error:
            raise DataError(
                f"{name} is no data set this machine may read: check {hub.SITE}/datasets/{name}, "
                "accept its licence there if it asks, set HF_TOKEN or run `hf auth login`"
            ) from error
        except ValueError as error:
            raise DataError(f"{name}: {error}") from error
        card = hub.dataset_card(name, config.revision)
    rows = ((f"{name}, row {number}", row) for number, row in enumerate(table, 1))
    examples = tuple(_examples(rows, config))
    return Dataset(
        ref=f"{name}@{config.revision}" if config.revision else name,
        sha256=sha256_json([example.id for example in examples]),
        size_bytes=sum(len(turn.content.encode()) for ex in examples for turn in ex.messages),
        licence=licence.normalise(config.licence) or licence.licence_of_card(card),
        examples=examples,
    )
