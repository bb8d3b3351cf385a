"""One example: a conversation that ends with the answer to learn.

Knows no file format and no tokenizer.
"""

from typing import Any, Literal

import msgspec

from finetune.fingerprint import sha256_json


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A conversation ending with an assistant turn; `id` is the digest of its content.

    `rejected` is a worse answer in place of the last, where there is one.
    """

    id: str
    messages: tuple[Message, ...]
    rejected: str | None = None

    def plain(self) -> list[dict[str, Any]]:
        """Return the messages as plain dictionaries, as chat templates want them."""
        return [{"role": turn.role, "content": turn.content} for turn in self.messages]


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Examples with what identifies their source; `formats` counts rows by detected format."""

    ref: str
    sha256: str
    size_bytes: int
    licence: str | None
    examples: tuple[Example, ...]
    formats: dict[str, int] = {}

    def input_entry(self) -> dict[str, Any]:
        """Return the manifest's entry among `inputs`."""
        names = ("ref", "sha256", "size_bytes", "licence")
        return {"role": "data"} | {name: getattr(self, name) for name in names}


def make_example(messages: list[Message], *, rejected: str | None = None) -> Example:
    """Build an example; blanks around a turn do not change its identity."""
    content = [[turn.role, turn.content.strip()] for turn in messages]
    if rejected is not None:
        content.append(["rejected", rejected.strip()])
    return Example(id=sha256_json(content), messages=tuple(messages), rejected=rejected)


def conversation(prompt: str, answer: str, *, system: str | None = None) -> Example:
    """Build a one-question example."""
    turns = [Message(role="system", content=system)] if system else []
    turns.append(Message(role="user", content=prompt))
    turns.append(Message(role="assistant", content=answer))
    return make_example(turns)
