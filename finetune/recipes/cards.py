"""Questions that documents answer by themselves: no teacher writes them.

    source     a documented function: what its docstring says -> the function
    text       a section under a heading: the heading -> the section
    table      rows of question, answer and document, as the user wrote them

What a question is made of is left out of what is shown, so that it cannot be found by its own
words. Knows no distractors and no files.
"""

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

import msgspec

from finetune.data.examples import Document
from finetune.data.stdlib_functions import MIN_STATEMENTS, Function, code_without_docstring
from finetune.errors import DataError
from finetune.fingerprint import sha256_json

HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)[ \t#]*$")
UNDERLINE = re.compile(r"^(={3,}|-{3,}|~{3,}|\^{3,})$")
WORD = re.compile(r"\w+")
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n{2,}")
FENCE = "```"
MIN_CHARACTERS = 40
FIELDS = ("question", "answer", "document")


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A question, the text that answers it, and the part of it that an answer quotes.

    `group` is the document it came from; `answer` is what follows the quotation.
    """

    id: str
    group: str
    name: str
    question: str
    text: str
    quote: str
    answer: str = ""


def cards_of(document: Document, max_characters: int) -> Iterator[Card]:
    """Yield the questions of one document whose answers are not too long to show."""
    make = _function_cards if document.kind == "source" else _section_cards
    for card in make(document):
        if MIN_CHARACTERS <= len(card.text) <= max_characters:
            yield card


def _card(document: Document, name: str, question: str, text: str, quote: str) -> Card:
    return Card(
        id=sha256_json([question, text]),
        group=document.id,
        name=name,
        question=question,
        text=text,
        quote=quote,
    )


def _function_cards(document: Document) -> Iterator[Card]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(document.text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    lines = document.text.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, Function):
            continue
        doc = ast.get_docstring(node)
        if not doc or len(node.body) <= MIN_STATEMENTS:
            continue
        _, code = code_without_docstring(node, lines)
        purpose = " ".join(doc.split("\n\n")[0].split()).rstrip(".")
        question = f"Which function does this, and how? {purpose}."
        yield _card(document, document.name, question, code, code)


def _section_cards(document: Document) -> Iterator[Card]:
    for path, body in sections(document.text):
        question = f"What is said about {' / '.join(path)}?"
        first = SENTENCE.split(body)[0]
        yield _card(document, document.name, question, body, first if first in body else body)


def sections(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each section that has text of its own: the headings above it, and that text.

    Headings are Markdown's `#`, or a line underlined with one sign, by depth of first appearance.
    """
    path: list[tuple[int, str]] = []
    body: list[str] = []
    for depth, line in _marked(text):
        if depth is None:
            body.append(line)
            continue
        if path and "".join(body).strip():
            yield tuple(title for _, title in path), "\n".join(body).strip()
        path = [*(above for above in path if above[0] < depth), (depth, line)]
        body = []
    if path and "".join(body).strip():
        yield tuple(title for _, title in path), "\n".join(body).strip()


def _marked(text: str) -> Iterator[tuple[int | None, str]]:
    """Yield lines, headings with their depth; a `#` inside of a code block is none."""
    lines = text.splitlines()
    signs: list[str] = []
    inside, skipped = False, False
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if skipped:
            skipped = False
            continue
        inside ^= line.lstrip().startswith(FENCE)
        found = None if inside else HEADING.match(line)
        if found:
            yield len(found.group(1)), found.group(2)
        elif not inside and line.strip() and UNDERLINE.match(after) and len(after) >= len(line):
            if after[0] not in signs:
                signs.append(after[0])
            skipped = True
            yield signs.index(after[0]) + 1, line.strip()
        else:
            yield None, line


def card_of_row(row: Any, where: str) -> Card:
    """Return a user's own question with its answer and document.

    Raises:
        DataError: a field is missing, or a `quote` is not in the document.
    """
    missing = [key for key in FIELDS if not isinstance(row, dict) or not row.get(key)]
    if missing:
        raise DataError(
            f"{where}: a question needs the fields {', '.join(FIELDS)}; missing or empty: "
            f"{', '.join(missing)}"
        )
    question, answer, text = (str(row[key]).strip() for key in FIELDS)
    quote = str(row.get("quote") or "").strip() or best_sentence(text, answer)
    if quote not in text:
        raise DataError(f"{where}: the quote is not in the document, word for word: {quote[:60]!r}")
    return Card(
        id=sha256_json([question, text]),
        group=sha256_json(text),
        name=str(row.get("name") or ""),
        question=question,
        text=text,
        quote=quote,
        answer=answer,
    )


def best_sentence(text: str, answer: str) -> str:
    """Return the sentence of a text that shares most words with an answer, the first of equals."""
    wanted = set(WORD.findall(answer.lower()))
    sentences = [part.strip() for part in SENTENCE.split(text) if part.strip()]
    return max(sentences, key=lambda part: len(wanted & set(WORD.findall(part.lower()))))
