"""RAFT: a question, documents of which one holds the answer, and an answer that quotes it.

    Document 1 ... Document k+1, question ─▶ "Document 3 says:" quotation, answer

In a share of the training questions the right document is missing, and the answer is given without
a quotation. Source: Zhang et al. 2024, "RAFT: Adapting Language Model to Domain Specific RAG".
Distractors of a held-out question are held out as well, and no document is on both sides.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from finetune import licence
from finetune.data.documents import load_documents
from finetune.data.examples import Dataset, Example, conversation
from finetune.data.files import TABLES, data_files, read_rows
from finetune.data.settings import DataConfig
from finetune.data.split import held_out
from finetune.errors import DataError
from finetune.fingerprint import sha256_files
from finetune.recipes.cards import Card, card_of_row, cards_of

INTRODUCTION = "Answer the question from the documents, and quote what the answer rests on."
Side = Literal["train", "heldout"]


def load_raft(config: DataConfig, seed: int) -> Dataset:
    """Make questions from a folder of documents or sources, or take them from a table.

    Raises:
        DataError: too few questions or documents to make examples from.
    """
    path = Path(config.path or "").expanduser()
    cards, source = _cards(path, config)
    distinct = sorted({card.id: card for card in cards}.values(), key=lambda card: card.id)
    held = held_out({card.group for card in distinct}, config.heldout_fraction)
    trained = [card for card in distinct if card.group not in held]
    asked = [card for card in distinct if card.group in held]
    examples = _examples(trained, "train", config, seed) + _examples(asked, "heldout", config, seed)
    stated = licence.normalise(config.licence)
    return msgspec.structs.replace(
        source,
        licence=stated or source.licence,
        examples=tuple(examples),
        documents=(),
        formats=source.formats | {"questions": len(distinct)},
    )


def _cards(path: Path, config: DataConfig) -> tuple[list[Card], Dataset]:
    if path.suffix in TABLES:
        cards = [card_of_row(row, where) for where, row in read_rows(path)]
        files = data_files(path)
        source = Dataset(
            ref=path.name,
            sha256=sha256_files(path.parent, files),
            size_bytes=sum(file.stat().st_size for file in files),
            licence=None,
        )
        return cards, source
    source = load_documents(path, config.suffixes)
    limit = config.raft.max_characters
    return [card for document in source.documents for card in cards_of(document, limit)], source


def _examples(cards: Sequence[Card], side: Side, config: DataConfig, seed: int) -> list[Example]:
    texts = {card.text for card in cards}
    needed = config.raft.num_distractors + 1
    if len(texts) < needed:
        raise DataError(
            f"{config.path} gives {len(texts)} different documents for the "
            f"{'held-out' if side == 'heldout' else 'training'} questions, and each question is "
            f"asked among {needed}: add documents, or lower data.raft.num_distractors"
        )
    return [
        msgspec.structs.replace(
            _example(card, cards, config, always=side == "heldout", seed=seed), side=side
        )
        for card in cards
    ]


def _example(
    card: Card, cards: Sequence[Card], config: DataConfig, *, always: bool, seed: int
) -> Example:
    chance = random.Random(f"{seed}:{card.id}")  # noqa: S311  # an order, not a secret
    others = sorted({other.text: other for other in cards if other.text != card.text}.items())
    has_oracle = always or chance.random() < config.raft.oracle_rate
    count = min(config.raft.num_distractors + (not has_oracle), len(others))
    shown = [other for _, other in chance.sample(others, count)]
    if has_oracle:
        shown.insert(chance.randint(0, len(shown)), card)
    place = shown.index(card) + 1 if has_oracle else None
    return conversation(_prompt(card, shown), _answer(card, place), system=config.system_prompt)


def _prompt(card: Card, shown: Sequence[Card]) -> str:
    parts = [
        f"Document {number}{f' ({other.name})' if other.name else ''}:\n{other.text}"
        for number, other in enumerate(shown, 1)
    ]
    return "\n\n".join([INTRODUCTION, *parts, f"Question: {card.question}"])


def _answer(card: Card, place: int | None) -> str:
    if place is None:
        return card.answer or card.quote
    quotation = "\n".join(f"> {line}".rstrip() for line in card.quote.splitlines())
    return "\n\n".join(part for part in (f"Document {place} says:", quotation, card.answer) if part)
