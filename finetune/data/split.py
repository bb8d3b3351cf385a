"""Which examples and documents are trained on and which are held out.

An item's own digest decides, so neither the order of a file nor its other rows move it; an example
that says its side (one made from a document that is held out) keeps it. Knows no tokenizer.
"""

import hashlib
from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

from finetune.data.examples import Document, Example
from finetune.errors import DataError


class Identified(Protocol):
    """Anything with a digest of its content."""

    @property
    def id(self) -> str:
        """The digest."""


Item = TypeVar("Item", bound=Identified)


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Distinct items, each on one side; both sides are in an order of their own digests."""

    train: tuple[Example, ...]
    heldout: tuple[Example, ...]
    train_documents: tuple[Document, ...] = ()
    heldout_documents: tuple[Document, ...] = ()
    num_duplicates: int


def split_examples(
    examples: tuple[Example, ...],
    *,
    fraction: float,
    max_heldout: int,
    seed: int,
    documents: tuple[Document, ...] = (),
) -> Split:
    """Drop exact repeats, hold out about `fraction` of the rest, at least one, at most the cap.

    What falls into the held-out share beyond the cap is neither trained nor measured, so that
    raising the cap never moves a trained example.

    Raises:
        DataError: fewer than two distinct examples, or than two distinct documents.
    """
    distinct = {example.id: example for example in examples}
    whole = {document.id: document for document in documents}
    for found, what in ((distinct, "example"), (whole, "document")):
        if len(found) == 1 or not (distinct or whole):
            raise DataError(
                f"{len(found)} distinct {what}: at least 2 are needed, one to train on and one "
                "to hold out"
            )
    held = {example.id for example in distinct.values() if example.side == "heldout"}
    held |= held_out([e.id for e in distinct.values() if e.side is None], fraction)
    held_documents = held_out(whole, fraction)
    return Split(
        train=by_position((e for e in distinct.values() if e.id not in held), str(seed)),
        heldout=_ranked(distinct[digest] for digest in held)[:max_heldout],
        train_documents=_ranked(d for d in whole.values() if d.id not in held_documents),
        heldout_documents=_ranked(whole[digest] for digest in held_documents)[:max_heldout],
        num_duplicates=len(examples) + len(documents) - len(distinct) - len(whole),
    )


def held_out(digests: Iterable[str], fraction: float) -> set[str]:
    """Return which of some digests are held out: about a fraction, at least one, never all."""
    ranked = sorted(digests, key=lambda digest: place_of(digest, salt="heldout"))
    if len(ranked) < 2:
        return set()
    num_held = sum(place_of(digest, salt="heldout") < fraction for digest in ranked)
    return set(ranked[: min(max(num_held, 1), len(ranked) - 1)])


def by_position(items: Iterable[Item], salt: str) -> tuple[Item, ...]:
    """Return items in an order that their digests and a salt decide."""
    return tuple(sorted(items, key=lambda item: place_of(item.id, salt=salt)))


def _ranked(items: Iterable[Item]) -> tuple[Item, ...]:
    return by_position(items, "heldout")


def place_of(digest: str, *, salt: str) -> float:
    """Map a digest to a fixed place in [0, 1), evenly spread over digests."""
    mixed = hashlib.sha256(f"{salt}:{digest}".encode()).digest()
    return int.from_bytes(mixed[:8], "big") / 2**64
