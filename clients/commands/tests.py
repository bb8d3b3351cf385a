"""`tests`: have tests written for a Python module, or for a function or class of it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clients import editing
from clients.commands import edit
from clients.commands.connection import add_sampling_flags, add_server_flags, connected, sampling
from clients.commands.source import read_source
from clients.commands.terminal import consents, note, show, write_json
from clients.errors import ClientError, UsageError
from clients.wire import Usage  # noqa: TC001  # msgspec reads it at run time

if TYPE_CHECKING:
    import argparse

EXAMPLES = """\
examples:
  python -m clients tests src/app.py
  python -m clients tests src/app.py:Cart.total --output tests/test_cart.py
"""
SYSTEM = (
    "You write pytest tests. Answer with one test file in one code block and nothing else: import "
    "what is tested from its module, test the ordinary case, the borders and the errors, and give "
    "each test a name that says what must hold."
)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Tests(msgspec.Struct, frozen=True, kw_only=True):
    """A test file. `written_to` is where it lies now, `backup` what lay there before."""

    text: str
    written_to: str | None
    backup: str | None
    usage: Usage | None


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "subject", metavar="FILE[:NAME]", help="NAME: a function, Class or C.method"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: standard output")
    parser.add_argument(
        "--yes", action="store_true", help="replace an existing --output without asking"
    )
    add_server_flags(parser)
    add_sampling_flags(parser, max_tokens=2048)
    parser.add_argument("--json", action="store_true", help="write tests and usage as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the tests to standard output, or to a file with consent."""
    file, name = _parse(args.subject)
    turns = _messages(file, read_source(file), name)
    before = _existing(args.output)
    with connected(args) as client:
        note(f"asking {client.model or 'the model'} ...")
        answer = client.chat(turns, extra={"temperature": 0.0, **sampling(args)})
    text = _checked(editing.whole_file(answer.text, answer.finish_reason))
    if not args.json:
        show(text, "python")
    written, backup = _write(args, before, text)
    if args.json:
        write_json(
            Tests(
                text=text,
                written_to=str(args.output) if written else None,
                backup=str(backup) if backup else None,
                usage=answer.usage,
            )
        )
    return 0


def _parse(subject: str) -> tuple[Path, str | None]:
    """Read FILE[:NAME]; a drive letter is no file."""
    file, colon, name = subject.rpartition(":")
    if colon and len(file) > 1 and all(part.isidentifier() for part in name.split(".")):
        return Path(file), name
    return Path(subject), None


def _messages(file: Path, text: str, name: str | None) -> list[dict[str, str]]:
    what = f"`{name}`" if name else "this module"
    shown = excerpt(text, name, where=str(file)) if name else text
    fence = editing.fence_for(shown)
    asked = (
        f"{file.name}, imported as `{module_name(file)}`:\n{fence}python\n{shown.rstrip()}\n{fence}"
        f"\n\nWrite tests for {what}."
    )
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": asked}]


def module_name(file: Path) -> str:
    """Return the dotted name: as many folders as hold an `__init__.py`."""
    file = file.resolve()
    parts = [] if file.stem == "__init__" else [file.stem]
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        parts.insert(0, folder.name)
    return ".".join(parts)


def excerpt(text: str, name: str, *, where: str) -> str:
    """Return the imports of a module and one definition.

    Raises:
        UsageError: it is no Python, or has no such definition; lists those there are.
    """
    try:
        module = ast.parse(text)
    except SyntaxError as error:
        raise UsageError(f"{where}, line {error.lineno}: {error.msg}") from None
    imports = [node for node in module.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    body: list[ast.stmt] = module.body
    for part in name.split("."):
        defined = {node.name: node for node in body if isinstance(node, Definition)}
        if part not in defined:
            known = ", ".join(defined) or "none"
            raise UsageError(f"{where} defines no {name!r}; looking for {part!r}, found: {known}")
        body = defined[part].body
    lines = text.splitlines()
    found = defined[part]
    first = min([found.lineno, *(each.lineno for each in found.decorator_list)])
    head = [ast.unparse(node) for node in imports]
    return "\n".join([*head, *([""] if head else []), *lines[first - 1 : found.end_lineno]])


def _existing(output: Path | None) -> bytes | None:
    """Return what lies where the tests are to go, before anything is asked.

    Raises:
        UsageError: nothing can be written there.
    """
    if output is None:
        return None
    if output.exists():
        return edit.read(output)
    if not output.parent.is_dir():
        raise UsageError(f"there is no folder {output.parent}; make it first")
    return None


def _checked(text: str) -> str:
    """Let nothing pass that Python cannot read.

    Raises:
        ClientError: it cannot.
    """
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise ClientError(
            f"the model's tests are no Python (line {error.lineno}: {error.msg}); nothing was "
            "written"
        ) from None
    return text


def _write(args: argparse.Namespace, before: bytes | None, text: str) -> tuple[bool, Path | None]:
    """Return whether the file was written, and where what it replaced lies."""
    if args.output is None:
        return False, None
    if before is None:
        try:
            with args.output.open("x", encoding="utf-8") as out:
                out.write(text)
        except OSError as error:
            raise UsageError(f"cannot write {args.output}: {error.strerror}") from None
        note(f"wrote {args.output}")
        return True, None
    if not consents(f"{args.output} exists; replace it?", is_given=args.yes):
        note(f"{args.output} exists and stays as it is; --yes replaces it and keeps a backup")
        return False, None
    backup = edit.replace(args.output.resolve(), before, text.encode())
    note(f"replaced {args.output}; the former content is in {backup}")
    return True, backup
