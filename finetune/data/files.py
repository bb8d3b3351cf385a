"""Rows of a file or folder on disk: JSON, JSON lines, CSV, Parquet, plain text; gzip or not.

Every row comes with the place it stands at, for messages about it. Knows no row format.
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from finetune.errors import DataError
from finetune.fingerprint import sha256_file, sha256_files

Rows = Iterator[tuple[str, Any]]
TABLES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
csv.field_size_limit(2**31 - 1)


def read_rows(path: Path) -> Rows:
    """Yield (place, row) of a table file, or of every table file below a folder, by path.

    Raises:
        DataError: unreadable, not text, or not what its name says, naming file and row.
    """
    for file in data_files(path):
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DataError(f"data.path {file} cannot be read: {error.strerror}") from error
        name = file.name.removesuffix(".gz")
        if name != file.name:
            content = _unzipped(file, content)
        yield from _readers().get(Path(name).suffix, _json_rows)(file, content)


def data_files(path: Path) -> list[Path]:
    """Return the file itself, or the table files below a folder in a fixed order.

    Raises:
        DataError: a folder without any.
    """
    if not path.is_dir():
        return [path]
    found = sorted(
        (file for file in path.rglob("*") if file.suffix in TABLES and file.is_file()),
        key=lambda file: file.relative_to(path).as_posix(),
    )
    if not found:
        raise DataError(
            f"{path} holds no data files; expected {', '.join(TABLES)}, or sources with "
            'data.source = "texts"'
        )
    return found


def sha256_data(path: Path) -> str:
    """Return one digest over a table file, or over all below a folder."""
    return sha256_file(path) if path.is_file() else sha256_files(path, data_files(path))


def _readers() -> dict[str, Callable[[Path, bytes], Rows]]:
    return {
        ".csv": lambda file, content: _csv_rows(file, content, ","),
        ".tsv": lambda file, content: _csv_rows(file, content, "\t"),
        ".parquet": _parquet_rows,
    }


def _unzipped(file: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise DataError(f"{file} is no whole gzip file: {error}") from error


def _text(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text: {error}") from error


def _json_rows(file: Path, content: bytes) -> Rows:
    """Yield rows of a JSON list or of JSON lines; the text decides, not the name."""
    text = _text(file, content)
    if text.lstrip().startswith("["):
        rows = _decode(text, str(file))
        yield from ((f"{file}, row {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{file}, row {number}"
            yield where, _decode(line, where)


def _decode(text: str, where: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise DataError(
            f"{where} is not JSON ({error}); a data file holds one list of rows, or a row a line; "
            f"known: {', '.join(TABLES)}"
        ) from error


def _csv_rows(file: Path, content: bytes, delimiter: str) -> Rows:
    reader = csv.DictReader(io.StringIO(_text(file, content), newline=""), delimiter=delimiter)
    try:
        for row in reader:
            where = f"{file}, line {reader.line_num}"
            if None in row or None in row.values():
                raise DataError(
                    f"{where}: {_width(row)} fields under a header of "
                    f"{len(reader.fieldnames or ())}; quote texts that hold `{delimiter}` or lines"
                )
            yield where, row
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}") from error


def _width(row: dict[Any, Any]) -> int:
    extra = row.get(None) or []
    return sum(value is not None for key, value in row.items() if key is not None) + len(extra)


def _parquet_rows(file: Path, content: bytes) -> Rows:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(pa.BufferReader(content))
        number = 0
        for batch in table.iter_batches(batch_size=1_000):
            for row in batch.to_pylist():
                number += 1
                yield f"{file}, row {number}", row
    except pa.ArrowInvalid as error:
        raise DataError(f"{file} is no Parquet file: {error}") from error
