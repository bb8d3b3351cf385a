"""Which examples are trained on and which are held out.

An example's own digest decides, so neither the order of a file nor its other rows move it.
Knows no tokenizer.
"""

import hashlib

import msgspec

from finetune.data.examples import Example
from finetune.errors import DataError


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Distinct examples, each on one side; both sides are in an order of their own digests."""

    train: tuple[Example, ...]
    heldout: tuple[Example, ...]
    num_duplicates: int


def split_examples(
    examples: tuple[Example, ...], *, fraction: float, max_heldout: int, seed: int
) -> Split:
    """Drop exact repeats, hold out about `fraction` of the rest, at least one, at most the cap.

    What falls into the held-out share beyond the cap is neither trained nor measured, so that
    raising the cap never moves a trained example.

    Raises:
        DataError: fewer than two distinct examples.
    """
    distinct = {example.id: example for example in examples}
    if len(distinct) < 2:
        raise DataError(
            f"{len(distinct)} distinct example: at least 2 are needed, one to train on and one "
            "to hold out"
        )
    ranked = sorted(distinct.values(), key=lambda example: _position(example.id, salt="heldout"))
    num_held = sum(_position(example.id, salt="heldout") < fraction for example in ranked)
    num_held = min(max(num_held, 1), len(ranked) - 1)
    train = sorted(ranked[num_held:], key=lambda example: _position(example.id, salt=str(seed)))
    return Split(
        train=tuple(train),
        heldout=tuple(ranked[: min(num_held, max_heldout)]),
        num_duplicates=len(examples) - len(distinct),
    )


def _position(digest: str, *, salt: str) -> float:
    """Map a digest to a fixed place in [0, 1)."""
    mixed = hashlib.sha256(f"{salt}:{digest}".encode()).digest()
    return int.from_bytes(mixed[:8], "big") / 2**64
