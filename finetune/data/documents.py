"""Plain texts and raw sources: files of folders, or rows with a `text`; no questions, no answers.

What a file is follows from its name. Folders that tools fill are left out, and so is what is no
text. Knows no tokenizer.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune import licence
from finetune.data.examples import Dataset, Document, DocumentKind, make_document
from finetune.data.files import TABLES, read_rows
from finetune.errors import DataError
from finetune.fingerprint import sha256_json

TEXTS = frozenset((".txt", ".md", ".markdown", ".rst", ".adoc", ".tex"))
SOURCES = frozenset(
    f".{name}"
    for names in (
        "py pyi js mjs jsx ts tsx html css vim lua dart go rs c h cc cpp hpp zig cs java kt",
        "scala swift rb php pl r jl hs ml ex erl clj sh sql",
    )
    for name in names.split()
)
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages", "dist-packages"})
SKIPPED_FOLDERS |= {"venv", "build", "dist", "target", "vendor"}
MAX_BYTES = 1_000_000
TEXT_FIELDS = ("text", "content")


def load_documents(path: Path, suffixes: tuple[str, ...] = ()) -> Dataset:
    """Read a folder of texts and sources, one such file, or a table with a `text` in each row.

    `suffixes` narrows a folder to the files that end so.

    Raises:
        DataError: nothing there, or nothing that is text.
    """
    formats: Counter[str] = Counter()
    place = path.expanduser()
    if not place.exists():
        raise DataError(f"{path}: no such file or folder (data.texts)")
    found = _of_table(place) if place.suffix in TABLES else _of_files(place, suffixes, formats)
    documents = tuple(document for document in found if document.text.strip())
    if not documents:
        wanted = ", ".join(suffixes) or f"{', '.join(sorted(TEXTS))} and the usual sources"
        skipped = f"; {', '.join(formats)}" if formats else ""
        raise DataError(f"{path} holds no texts to learn from (looked for {wanted}{skipped})")
    formats.update(_described(document) for document in documents)
    return Dataset(
        ref=place.name or str(place),
        sha256=sha256_json(sorted(document.id for document in documents)),
        size_bytes=sum(len(document.text.encode()) for document in documents),
        licence=licence.licence_of_folder(place) if place.is_dir() else None,
        documents=documents,
        formats=dict(formats),
    )


def _described(document: Document) -> str:
    suffix = Path(document.name).suffix
    return f"{suffix} {document.kind}s" if suffix else f"{document.kind}s"


def _of_files(path: Path, suffixes: tuple[str, ...], formats: Counter[str]) -> Iterator[Document]:
    """Yield the files of a folder by name; count what is left out for its size or encoding."""
    wanted = frozenset(suffixes) or TEXTS | SOURCES
    for file, name in _files(path):
        if path.is_dir() and file.suffix.lower() not in wanted:
            continue
        try:
            content = file.read_bytes()
            text = content.decode("utf-8-sig") if len(content) <= MAX_BYTES else None
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            formats["files left out: not UTF-8"] += 1
            continue
        if text is None:
            formats[f"files left out: over {MAX_BYTES:,} bytes"] += 1
            continue
        kind: DocumentKind = "text" if file.suffix.lower() in TEXTS else "source"
        yield make_document(name, text.replace("\r\n", "\n"), kind)


def _files(path: Path) -> list[tuple[Path, str]]:
    if path.is_file():
        return [(path, path.name)]
    found = ((file, file.relative_to(path)) for file in path.rglob("*"))
    kept = (
        (file, place.as_posix())
        for file, place in found
        if not any(part in SKIPPED_FOLDERS or part.startswith(".") for part in place.parts)
        and file.is_file()
    )
    return sorted(kept, key=lambda pair: pair[1])


def _of_table(path: Path) -> Iterator[Document]:
    for number, (where, row) in enumerate(read_rows(path), 1):
        yield make_document(f"{path.stem} {number}", _row_text(row, where), "text")


def _row_text(row: Any, where: str) -> str:
    values = (row.get(key) for key in TEXT_FIELDS) if isinstance(row, dict) else ()
    text = next((value for value in values if isinstance(value, str)), None)
    if text is None:
        raise DataError(f"{where}: a plain text needs a field {' or '.join(TEXT_FIELDS)}")
    return text
