"""Preference pairs as token ids: one question with a preferred and a rejected answer.

    prompt_ids | chosen_ids    ... <|im_end|>
               | rejected_ids  ... <|im_end|>

Both answers follow the same ids, split where a server would split them. Knows no trainer.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from finetune.data.examples import Example, Message
from finetune.data.prepare import Prepared, Side
from finetune.data.tokens import IGNORED, Encoded, encode, stop_token_ids
from finetune.errors import DataError


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """The answers carry the loss, each up to and with its end-of-turn token."""

    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def chosen(self) -> Encoded:
        """The preferred answer after its prompt."""
        return self._encoded(self.chosen_ids)

    @property
    def rejected(self) -> Encoded:
        """The other answer after the same prompt."""
        return self._encoded(self.rejected_ids)

    @property
    def both(self) -> Encoded:
        """Both, one after the other: what a step reads of a pair."""
        one, other = self.chosen, self.rejected
        return Encoded(
            id="", input_ids=one.input_ids + other.input_ids, labels=one.labels + other.labels
        )

    def _encoded(self, answer: list[int]) -> Encoded:
        labels = [IGNORED] * len(self.prompt_ids) + answer
        return Encoded(id="", input_ids=self.prompt_ids + answer, labels=labels)


class Preferences(msgspec.Struct, frozen=True, kw_only=True):
    """The pairs of both sides, in the order of the prepared examples."""

    train: tuple[Pair, ...]
    heldout: tuple[Pair, ...]


def prepare_pairs(
    prepared: Prepared, tokenizer: Any, max_length: int
) -> tuple[Prepared, Preferences]:
    """Encode rejected answers; pairs of which one is too long leave both sides.

    Raises:
        DataError: an example without a rejected answer, or no pair is left.
    """
    stop_ids = stop_token_ids(tokenizer)
    train, train_pairs = _fitting(prepared.train, tokenizer, stop_ids, max_length)
    heldout, heldout_pairs = _fitting(prepared.heldout, tokenizer, stop_ids, max_length)
    if not train_pairs or not heldout_pairs:
        raise DataError(
            f"no pair is left to {'train on' if not train_pairs else 'hold out'}: a rejected "
            f"answer of each is longer than train.max_seq_length ({max_length} tokens); raise it"
        )
    num_dropped = sum(
        len(before.encoded) - len(after.encoded)
        for before, after in ((prepared.train, train), (prepared.heldout, heldout))
    )
    kept = msgspec.structs.replace(
        prepared,
        train=train,
        heldout=heldout,
        num_too_long=prepared.num_too_long + num_dropped,
    )
    return kept, Preferences(train=train_pairs, heldout=heldout_pairs)


def _fitting(
    side: Side, tokenizer: Any, stop_ids: frozenset[int], max_length: int
) -> tuple[Side, tuple[Pair, ...]]:
    examples, rows, pairs = [], [], []
    for example, row in zip(side.examples, side.encoded, strict=True):
        if not isinstance(example, Example):
            raise DataError("train.method dpo learns from pairs; leave out data.fim and documents")
        rejected = encode(_with_rejected(example), tokenizer, stop_ids)
        if rejected.num_tokens <= max_length:
            start = _answer_start(row.labels)
            examples.append(example)
            rows.append(row)
            pairs.append(
                Pair(
                    prompt_ids=row.input_ids[:start],
                    chosen_ids=row.input_ids[start:],
                    rejected_ids=rejected.input_ids[start:],
                )
            )
    return Side(examples=tuple(examples), encoded=tuple(rows)), tuple(pairs)


def _with_rejected(example: Example) -> Example:
    if example.rejected is None:
        raise DataError(
            f"example {example.id[:12]} has no rejected answer; train.method dpo needs rows with "
            "prompt, chosen and rejected"
        )
    last = Message(role="assistant", content=example.rejected)
    return msgspec.structs.replace(example, messages=(*example.messages[:-1], last))


def _answer_start(labels: Sequence[int]) -> int:
    """Return where the last answer starts; earlier turns of the assistant are context."""
    return len(labels) - next(at for at, label in enumerate(reversed(labels)) if label == IGNORED)
