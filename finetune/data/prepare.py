"""From a data set to what is trained: split, encode, drop what is too long, keep to the budget.

Knows the order of these steps and their counts. Does not know the model.
"""

from typing import Any

import msgspec

from finetune.config import Config
from finetune.data.examples import Dataset, Example
from finetune.data.split import split_examples
from finetune.data.tokens import Encoded, encode, stop_token_ids
from finetune.errors import DataError


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """Examples of one side with their token ids, in the same order."""

    examples: tuple[Example, ...]
    encoded: tuple[Encoded, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole side."""
        return sum(row.num_tokens for row in self.encoded)


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides, and what became of the other examples."""

    train: Side
    heldout: Side
    num_found: int
    num_duplicates: int
    num_truncated: int
    num_too_long: int

    def figures(self) -> dict[str, int]:
        """Return the counts for log, manifest and screen."""
        return {
            "num_examples_found": self.num_found,
            "num_train_examples": len(self.train.encoded),
            "num_heldout_examples": len(self.heldout.encoded),
            "num_duplicate_examples": self.num_duplicates,
            "num_truncated_examples": self.num_truncated,
            "num_too_long_examples": self.num_too_long,
        }


class _Fitter:
    """Encodes examples one by one and counts those that do not fit."""

    def __init__(self, tokenizer: Any, config: Config) -> None:
        self.tokenizer = tokenizer
        self.stop_ids = stop_token_ids(tokenizer)
        self.max_length = config.train.max_seq_length
        self.truncate = config.data.too_long == "truncate"
        self.num_truncated = 0
        self.num_too_long = 0

    def fit(self, example: Example) -> Encoded | None:
        row = encode(example, self.tokenizer, self.stop_ids)
        if row.num_tokens <= self.max_length:
            return row
        cut = row.cut(self.max_length)
        if self.truncate and cut.num_learnt:
            self.num_truncated += 1
            return cut
        self.num_too_long += 1
        return None

    def side(self, examples: tuple[Example, ...], max_tokens: int) -> Side:
        """Keep examples while the budget lasts; a budget of 0 keeps all."""
        kept: list[tuple[Example, Encoded]] = []
        num_tokens = 0
        for example in examples:
            row = self.fit(example)
            if row is None:
                continue
            if max_tokens and kept and num_tokens + row.num_tokens > max_tokens:
                break
            num_tokens += row.num_tokens
            kept.append((example, row))
        return Side(
            examples=tuple(example for example, _ in kept), encoded=tuple(row for _, row in kept)
        )


def prepare(dataset: Dataset, tokenizer: Any, config: Config) -> Prepared:
    """Split and encode a data set.

    Raises:
        DataError: no answer of one side survives `train.max_seq_length`.
    """
    split = split_examples(
        dataset.examples,
        fraction=config.data.heldout_fraction,
        max_heldout=config.data.max_heldout_examples,
        seed=config.train.seed,
    )
    fitter = _Fitter(tokenizer, config)
    train = fitter.side(split.train, config.data.max_train_tokens)
    heldout = fitter.side(split.heldout, 0)
    for name, side, offered in (
        ("train", train, split.train),
        ("held-out", heldout, split.heldout),
    ):
        if not side.encoded:
            raise DataError(
                f"all {len(offered)} {name} examples of {dataset.ref} are longer than "
                f"train.max_seq_length ({fitter.max_length} tokens): no answer is left to learn; "
                "raise it"
            )
    return Prepared(
        train=train,
        heldout=heldout,
        num_found=len(dataset.examples),
        num_duplicates=split.num_duplicates,
        num_truncated=fitter.num_truncated,
        num_too_long=fitter.num_too_long,
    )
