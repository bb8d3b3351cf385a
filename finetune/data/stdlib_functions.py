"""Docstring to function pairs from the Python standard library of this machine.

Reads sources with `ast` and imports none of them. Knows nothing of files the user brings.
"""

import ast
import sys
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

from finetune.data.examples import Example, conversation

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}
SKIPPED_FOLDERS |= {"turtledemo", "ensurepip", "idle_test", "__pycache__", "_pyrepl"}
MAX_DOC_CHARACTERS = 400
MAX_CODE_CHARACTERS = 900
MIN_STATEMENTS = 2
LICENCE = "PSF-2.0"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def source_name() -> str:
    """Name the library that is read, with its exact version."""
    version = ".".join(map(str, sys.version_info[:3]))
    return f"python-{version}-standard-library"


def stdlib_examples(system: str | None = None) -> Iterator[Example]:
    """Yield one example per documented function, by path and then by line."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        if not SKIPPED_FOLDERS.intersection(path.relative_to(root).parts):
            text = path.read_text(encoding="utf-8", errors="replace")
            yield from functions_in(text, system=system)


def functions_in(text: str, *, system: str | None = None) -> Iterator[Example]:
    """Yield examples from one module's text; text that does not parse yields none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    lines = text.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, Function):
            example = _example(node, lines, system)
            if example is not None:
                yield example


def _example(node: Function, lines: list[str], system: str | None) -> Example | None:
    doc = ast.get_docstring(node)
    body = node.body[1:]
    if not doc or len(doc) > MAX_DOC_CHARACTERS or len(body) < MIN_STATEMENTS:
        return None
    header, code = code_without_docstring(node, lines)
    if not header or len(code) > MAX_CODE_CHARACTERS:
        return None
    prompt = f"Write this Python function.\n\n{header}\n{textwrap.indent(_quoted(doc), '    ')}"
    return conversation(prompt, f"```python\n{code}\n```", system=system)


def _quoted(doc: str) -> str:
    return f'"""{doc}"""' if "\n" not in doc else f'"""{doc}\n"""'


def code_without_docstring(node: Function, lines: list[str]) -> tuple[str, str]:
    """Return the signature and the whole function, both without decorators and docstring."""
    docstring = node.body[0]
    header = lines[node.lineno - 1 : docstring.lineno - 1]
    body = lines[docstring.end_lineno or docstring.lineno : node.end_lineno]
    while body and not body[0].strip():
        body = body[1:]
    signature = textwrap.dedent("\n".join(header)).rstrip()
    code = textwrap.dedent("\n".join([*header, *body])).rstrip()
    return signature, code
