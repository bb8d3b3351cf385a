"""From a data set to what is trained: split, encode, drop what is too long, keep to the budget.

Knows the order of these steps and their counts. Does not know the model.
"""

from typing import Any

import msgspec

from finetune.config import Config
from finetune.data.examples import Dataset, Document, Example
from finetune.data.split import by_position, split_examples
from finetune.data.tokens import Encoded, encode, stop_token_ids
from finetune.errors import DataError
from finetune.recipes.fim import Gap, encode_gap
from finetune.recipes.fim_tokens import FimTokens, ensure_fim_tokens
from finetune.recipes.passages import Passage, encode_passage
from finetune.recipes.trained import Trained, trained_items


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What one side teaches with its token ids, in the same order."""

    examples: tuple[Trained, ...]
    encoded: tuple[Encoded, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole side."""
        return sum(row.num_tokens for row in self.encoded)

    def count(self, kind: type[Trained]) -> int:
        """How many of one kind there are."""
        return sum(isinstance(item, kind) for item in self.examples)


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides, and what became of the other examples."""

    train: Side
    heldout: Side
    num_found: int
    num_duplicates: int
    num_truncated: int
    num_too_long: int
    fim_tokens: FimTokens | None = None

    @property
    def new_token_ids(self) -> tuple[int, ...]:
        """Tokens that were added to the vocabulary and have to be learnt."""
        return self.fim_tokens.new_ids if self.fim_tokens else ()

    def figures(self) -> dict[str, int]:
        """Return the counts for log, manifest and screen."""
        return {
            "num_examples_found": self.num_found,
            "num_train_examples": len(self.train.encoded),
            "num_heldout_examples": len(self.heldout.encoded),
            "num_duplicate_examples": self.num_duplicates,
            "num_truncated_examples": self.num_truncated,
            "num_too_long_examples": self.num_too_long,
            "num_train_gaps": self.train.count(Gap),
            "num_train_passages": self.train.count(Passage),
        }


class _Fitter:
    """Encodes items one by one and counts those that do not fit."""

    def __init__(self, tokenizer: Any, config: Config) -> None:
        self.tokenizer = tokenizer
        self.config = config
        self.fim_tokens = ensure_fim_tokens(tokenizer) if config.data.fim.rate else None
        self.stop_ids = stop_token_ids(tokenizer)
        self.max_length = config.train.max_seq_length
        self.truncate = config.data.too_long == "truncate"
        self.num_truncated = 0
        self.num_too_long = 0

    def items(
        self, examples: tuple[Example, ...], documents: tuple[Document, ...]
    ) -> tuple[Trained, ...]:
        """Return what a side teaches, all kinds mixed."""
        seed = self.config.train.seed
        found = trained_items(
            examples,
            documents,
            self.tokenizer,
            self.config.data.fim,
            max_tokens=self.max_length,
            seed=seed,
        )
        return by_position({item.id: item for item in found}.values(), str(seed))

    def fit(self, item: Trained) -> Encoded | None:
        if isinstance(item, Gap):
            return self._fit_gap(item)
        if isinstance(item, Passage):
            return encode_passage(item, self.tokenizer).cut(self.max_length)
        row = encode(item, self.tokenizer, self.stop_ids)
        if row.num_tokens <= self.max_length:
            return row
        cut = row.cut(self.max_length)
        if self.truncate and cut.num_learnt:
            self.num_truncated += 1
            return cut
        self.num_too_long += 1
        return None

    def _fit_gap(self, gap: Gap) -> Encoded | None:
        assert self.fim_tokens is not None
        whole = self.config.data.fim.loss == "whole"
        row = encode_gap(
            gap, self.tokenizer, self.fim_tokens, whole=whole, max_length=self.max_length
        )
        self.num_too_long += row is None
        return row

    def side(self, examples: tuple[Trained, ...], max_tokens: int) -> Side:
        """Keep examples while the budget lasts; a budget of 0 keeps all."""
        kept: list[tuple[Trained, Encoded]] = []
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
        documents=dataset.documents,
    )
    fitter = _Fitter(tokenizer, config)
    to_train = fitter.items(split.train, split.train_documents)
    to_hold = fitter.items(split.heldout, split.heldout_documents)
    train = fitter.side(to_train, config.data.max_train_tokens)
    heldout = fitter.side(_some_of_each(to_hold, config.data.max_heldout_examples), 0)
    for name, side, offered in (("train", train, to_train), ("held-out", heldout, to_hold)):
        if not side.encoded:
            raise DataError(
                f"all {len(offered)} {name} examples of {dataset.ref} are longer than "
                f"train.max_seq_length ({fitter.max_length} tokens): no answer is left to learn; "
                "raise it"
            )
    return Prepared(
        train=train,
        heldout=heldout,
        num_found=len(dataset.examples) + len(dataset.documents),
        num_duplicates=split.num_duplicates,
        num_truncated=fitter.num_truncated,
        num_too_long=fitter.num_too_long,
        fim_tokens=fitter.fim_tokens,
    )


def _some_of_each(items: tuple[Trained, ...], most: int) -> tuple[Trained, ...]:
    """Keep at most so many of each kind; a long document would fill the held-out side alone."""
    kept: list[Trained] = []
    for kind in (Example, Gap, Passage):
        kept += [item for item in items if isinstance(item, kind)][:most]
    return tuple(kept)
