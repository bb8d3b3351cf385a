"""Documents as plain text to go on with: cut at line ends to fit, every token learnt.

    document = passage | passage | ... | passage <end of text>

Knows tokenizers. Knows no files and no gaps.
"""

from itertools import accumulate
from typing import Any

import msgspec

from finetune.data.examples import Document
from finetune.data.tokens import Encoded, end_of_text_id, leading_ids, token_ids
from finetune.fingerprint import sha256_json


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a document from a character on; only the last part ends the text."""

    id: str
    text: str
    start: int
    is_last: bool


def cut(document: Document, tokenizer: Any, max_tokens: int) -> list[Passage]:
    """Cut a document into passages of at most `max_tokens`, at line ends where lines allow it."""
    texts: list[str] = []
    current, used = "", 0
    for line in document.text.splitlines(keepends=True):
        for part, size in _fitting(line, tokenizer, max_tokens):
            if current and used + size > max_tokens:
                texts.append(current)
                current, used = "", 0
            current, used = current + part, used + size
    texts.append(current)
    starts = accumulate(map(len, texts), initial=0)
    return [
        Passage(
            id=sha256_json([document.id, start, text]),
            text=text,
            start=start,
            is_last=start + len(text) == len(document.text),
        )
        for start, text in zip(starts, texts, strict=False)
        if text.strip()
    ]


def _fitting(line: str, tokenizer: Any, max_tokens: int) -> list[tuple[str, int]]:
    """Return a line with its number of tokens, in halves where it is too long for one passage."""
    size = len(token_ids(tokenizer, line))
    if size <= max_tokens or len(line) < 2:
        return [(line, size)]
    middle = len(line) // 2
    return [
        *_fitting(line[:middle], tokenizer, max_tokens),
        *_fitting(line[middle:], tokenizer, max_tokens),
    ]


def encode_passage(passage: Passage, tokenizer: Any) -> Encoded:
    """Tokenize a passage; all of it carries loss, and so does its end."""
    ids = leading_ids(tokenizer) + token_ids(tokenizer, passage.text)
    ids += [end_of_text_id(tokenizer)] if passage.is_last else []
    return Encoded(id=passage.id, input_ids=ids, labels=list(ids))
