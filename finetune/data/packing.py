"""The order in which examples are trained on, and how they share rows.

    examples, shuffled anew each epoch -> rows, in the order the trainer takes them

A packed row holds whole examples up to a token budget and is filled up to exactly that budget with
padding that carries no loss: rows of one length need their kernels compiled once. Each example
keeps its own length, so attention never crosses from one into another. Knows no model.
"""

import random
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

import msgspec

from finetune.data.tokens import IGNORED, Encoded


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the trainer's table.

    `examples` are positions in the training set; `seq_lengths` their token counts in the same
    order, followed by that of the padding when there is some; `num_tokens` counts real ones.
    """

    input_ids: list[int]
    labels: list[int]
    seq_lengths: list[int]
    examples: list[int]
    num_tokens: int


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> list[int]:
    """Return a permutation that only seed and epoch decide."""
    order = list(range(num_examples))
    random.Random(f"{seed}:{epoch}").shuffle(order)  # noqa: S311  # an order, not a secret
    return order


def rows_of_epochs(
    encoded: Sequence[Encoded], *, row_tokens: int, pad_id: int, seed: int
) -> Iterator[list[Row]]:
    """Yield the rows of one epoch after another, without end.

    `row_tokens` is the length of every row, at least the longest example's; 0 gives each example a
    row of its own, unpadded.
    """
    epoch = 0
    while True:
        order = epoch_order(len(encoded), seed=seed, epoch=epoch)
        if row_tokens:
            yield _packed(encoded, order, row_tokens, pad_id)
        else:
            yield [_row(encoded, [index], 0, pad_id) for index in order]
        epoch += 1


def _packed(
    encoded: Sequence[Encoded], order: list[int], row_tokens: int, pad_id: int
) -> list[Row]:
    """Pack by best fit in the order given, so that a row holds long and short ones alike.

    Longest first would waste less in short rows, and make every step of one kind of example.
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for index in order:
        need = encoded[index].num_tokens
        place = bisect_left(free, (need, -1))
        if place == len(free):
            free_tokens, row = row_tokens, len(rows)
            rows.append([])
        else:
            free_tokens, row = free.pop(place)
        rows[row].append(index)
        insort(free, (free_tokens - need, row))
    return [_row(encoded, members, row_tokens, pad_id) for members in rows]


def _row(encoded: Sequence[Encoded], members: list[int], row_tokens: int, pad_id: int) -> Row:
    input_ids: list[int] = []
    labels: list[int] = []
    for index in members:
        input_ids += encoded[index].input_ids
        labels += encoded[index].labels
    lengths = [encoded[index].num_tokens for index in members]
    num_tokens = len(input_ids)
    padding = max(0, row_tokens - num_tokens)
    return Row(
        input_ids=input_ids + [pad_id] * padding,
        labels=labels + [IGNORED] * padding,
        seq_lengths=lengths + [padding] * bool(padding),
        examples=members,
        num_tokens=num_tokens,
    )
