"""Where examples come from: the standard library, a local file, or the hub.

Knows files and identities; the meaning of a row is `rows`' business.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from finetune import hub, licence
from finetune.data import stdlib_functions
from finetune.data.documents import load_documents
from finetune.data.examples import Dataset, Example, joined
from finetune.data.files import data_files, read_rows, sha256_data
from finetune.data.rows import detect_format, to_example
from finetune.data.settings import DataConfig
from finetune.errors import DataError
from finetune.fingerprint import sha256_json
from finetune.recipes.raft import load_raft


def load_dataset(config: DataConfig, *, seed: int = 0) -> Dataset:
    """Read every example and text of the configured sources; `seed` shuffles RAFT's distractors.

    Raises:
        DataError: missing, malformed or empty data.
        HubError: a hub data set that cannot be fetched.
    """
    parts = [load_documents(Path(text), config.suffixes) for text in config.texts]
    if config.source == "texts":
        stated = licence.normalise(config.licence)
        parts = [msgspec.structs.replace(p, licence=stated or p.licence) for p in parts]
    elif config.source == "raft":
        parts.insert(0, load_raft(config, seed))
    else:
        loaders = {"stdlib": _load_stdlib, "file": _load_file, "hub": _load_hub}
        parts.insert(0, loaders[config.source](config))
    if not (parts[0].examples or parts[0].documents):
        raise DataError(f"{parts[0].ref} holds no examples: there is nothing to train on")
    return joined(parts)


def _load_stdlib(config: DataConfig) -> Dataset:
    examples = tuple(stdlib_functions.stdlib_examples(config.system_prompt))
    return Dataset(
        ref=stdlib_functions.source_name(),
        sha256=sha256_json([example.id for example in examples]),
        size_bytes=sum(len(turn.content.encode()) for ex in examples for turn in ex.messages),
        licence=stdlib_functions.LICENCE,
        examples=examples,
        formats={"python functions": len(examples)},
    )


def _load_file(config: DataConfig) -> Dataset:
    path = Path(config.path or "").expanduser()
    formats: Counter[str] = Counter()
    examples = tuple(_examples(read_rows(path), config, formats))
    files = data_files(path)
    return Dataset(
        ref=path.name,
        sha256=sha256_data(path),
        size_bytes=sum(file.stat().st_size for file in files),
        licence=licence.normalise(config.licence) or licence_beside(path),
        examples=examples,
        formats=dict(formats),
    )


def licence_beside(path: Path) -> str | None:
    """Return what a licence file or card in the data's folder says."""
    return licence.licence_of_folder(path) if path.is_dir() else None


def _examples(
    rows: Iterator[tuple[str, Any]], config: DataConfig, formats: Counter[str]
) -> Iterator[Example]:
    """Yield rows as examples and count them by format."""
    format_name: str = config.format
    for where, row in rows:
        if format_name == "auto":
            format_name = detect_format(row, where)
        formats[format_name] += 1
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
    formats: Counter[str] = Counter()
    examples = tuple(_examples(rows, config, formats))
    return Dataset(
        formats=dict(formats),
        ref=f"{name}@{config.revision}" if config.revision else name,
        sha256=sha256_json([example.id for example in examples]),
        size_bytes=sum(len(turn.content.encode()) for ex in examples for turn in ex.messages),
        licence=licence.normalise(config.licence) or licence.licence_of_card(card),
        examples=examples,
    )
