"""Edit a configuration file's text in its own format, comments kept. Knows no editor."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from clients.editors import jsonc, paths
from clients.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Edited = Callable[[str, "tuple[Edit, ...]"], str]

_OFFSET_LIST = re.compile(r"^[^\s#-][^\n]*:[ \t]*\n[ ]+- ", re.MULTILINE)
_FLUSH_LIST = re.compile(r"^[^\s#-][^\n]*:[ \t]*\n- ", re.MULTILINE)


class Edit(msgspec.Struct, frozen=True):
    """A value for a place. `is_default`: only where there is none yet."""

    path: paths.Path
    value: Any
    is_default: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one file should hold: edits of a document, or the whole `text`."""

    file: Path
    format: Literal["json", "yaml", "toml", "text"]
    edits: tuple[Edit, ...] = ()
    text: str = ""


def edited(change: Change, before: str) -> str:
    """Return the file's new text.

    Raises:
        UsageError: the old one cannot be read as what it should be.
    """
    if change.format == "text":
        return change.text
    formats: dict[str, Edited] = {"json": _json, "yaml": _yaml, "toml": _toml}
    try:
        return formats[change.format](before, change.edits)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{change.file} is not valid {change.format.upper()} ({reason}); repair it, or use "
            "--print and copy what is needed"
        ) from None


def _json(text: str, edits: tuple[Edit, ...]) -> str:
    for edit in edits:
        if not (edit.is_default and jsonc.has(text, edit.path)):
            text = jsonc.put(text, edit.path, edit.value)
    return text


def _yaml(text: str, edits: tuple[Edit, ...]) -> str:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    if _OFFSET_LIST.search(text) or not _FLUSH_LIST.search(text):
        yaml.indent(mapping=2, sequence=4, offset=2)
    if isinstance(edits[0].path[0], paths.Item):
        yaml.indent(mapping=2, sequence=2, offset=0)
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise ValueError(str(error)) from None
    if document is None:
        document = [] if isinstance(edits[0].path[0], paths.Item) else {}
    _put_all(document, edits)
    out = StringIO()
    yaml.dump(document, out)
    return out.getvalue()


def _toml(text: str, edits: tuple[Edit, ...]) -> str:
    import tomlkit

    document = tomlkit.parse(text)
    _put_all(document, edits)
    return tomlkit.dumps(document)


def _put_all(document: Any, edits: tuple[Edit, ...]) -> None:
    for edit in edits:
        if not (edit.is_default and _has(document, edit.path)):
            paths.put(document, edit.path, edit.value)


def _has(document: Any, path: paths.Path) -> bool:
    for step in path:
        document = paths.find(document, step)
    return document is not None
