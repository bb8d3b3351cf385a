"""One example: a conversation that ends with the answer to learn; or a document to go on with.

Knows no file format and no tokenizer.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from finetune.fingerprint import sha256_json

DocumentKind = Literal["source", "text"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation ending with an assistant turn; `id` is the digest of its content.

    `rejected` is a worse answer in place of the last, where there is one; `side` is set where its
    source decides what is held out.
    """

    id: str
    messages: tuple[Message, ...]
    rejected: str | None = None
    side: Literal["train", "heldout"] | None = None

    def plain(self) -> list[dict[str, Any]]:
        """Return the messages as plain dictionaries, as chat templates want them."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A text without question and answer; `id` is its digest, `name` tells where it stands."""

    id: str
    name: str
    text: str
    kind: DocumentKind


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Examples and documents with what identifies their source.

    `formats` counts rows or files by detected format; `parts` are the sources of a joined set.
    """

    ref: str
    sha256: str
    size_bytes: int
    licence: str | None
    examples: tuple[Example, ...] = ()
    documents: tuple[Document, ...] = ()
    formats: dict[str, int] = {}
    parts: tuple["Dataset", ...] = ()

    def input_entries(self) -> list[dict[str, Any]]:
        """Return the manifest's entries among `inputs`, one a source."""
        names = ("ref", "sha256", "size_bytes", "licence")
        return [
            {"role": "data"} | {name: getattr(part, name) for name in names}
            for part in self.parts or (self,)
        ]


def joined(parts: Sequence[Dataset]) -> Dataset:
    """Put data sets together; the licence of the whole is known when that of each part is."""
    if len(parts) == 1:
        return parts[0]
    licences = [part.licence for part in parts]
    formats: Counter[str] = Counter()
    for part in parts:
        formats.update(part.formats)
    return Dataset(
        ref=" + ".join(part.ref for part in parts),
        sha256=sha256_json([part.sha256 for part in parts]),
        size_bytes=sum(part.size_bytes for part in parts),
        licence=", ".join(sorted({name for name in licences if name})) if all(licences) else None,
        examples=tuple(example for part in parts for example in part.examples),
        documents=tuple(document for part in parts for document in part.documents),
        formats=dict(formats),
        parts=tuple(msgspec.structs.replace(part, examples=(), documents=()) for part in parts),
    )


def make_example(messages: list[Message], *, rejected: str | None = None) -> Example:
    """Build an example; blanks around a turn do not change its identity."""
    content = [[turn.role, turn.content.strip()] for turn in messages]
    if rejected is not None:
        content.append(["rejected", rejected.strip()])
    return Example(id=sha256_json(content), messages=tuple(messages), rejected=rejected)


def make_document(name: str, text: str, kind: DocumentKind) -> Document:
    """Build a document; where it stands is no part of its identity."""
    return Document(id=sha256_json(text), name=name, text=text, kind=kind)


def conversation(prompt: str, answer: str, *, system: str | None = None) -> Example:
    """Build a one-question example."""
    turns = [Message(role="system", content=system)] if system else []
    turns.append(Message(role="user", content=prompt))
    turns.append(Message(role="assistant", content=answer))
    return make_example(turns)
