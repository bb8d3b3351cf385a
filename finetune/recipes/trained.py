"""What one side of a split becomes: conversations, gaps cut from code, and passages of documents.

    conversation ─▶ itself, and with chance `rate` a gap from its Python code
    source       ─▶ passages; each with chance `rate` a gap instead
    text         ─▶ passages

Knows the order of these steps, no files and no model.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from finetune.data.examples import Document, Example
from finetune.data.split import place_of
from finetune.recipes.fim import NUM_MARKS, Gap, make_gap
from finetune.recipes.passages import Passage, cut
from finetune.recipes.python_code import code_in
from finetune.recipes.settings import FimConfig
from finetune.recipes.spans import function_bodies, within

Trained = Example | Gap | Passage


def trained_items(
    examples: Sequence[Example],
    documents: Sequence[Document],
    tokenizer: Any,
    config: FimConfig,
    *,
    max_tokens: int,
    seed: int,
) -> Iterator[Trained]:
    """Yield everything that a side teaches; seed and texts alone decide what becomes a gap."""
    for example in examples:
        yield example
        for code in code_in(example) if _is_chosen(example.id, config, seed) else ():
            gap = make_gap(code, config, seed=seed)
            if gap is not None:
                yield gap
    for document in documents:
        passages = cut(document, tokenizer, max_tokens - NUM_MARKS - 1)
        if document.kind == "text" or not config.rate:
            yield from passages
            continue
        bodies = function_bodies(document.text)
        for passage in passages:
            inside = within(bodies, passage.start, passage.start + len(passage.text))
            chosen = _is_chosen(passage.id, config, seed)
            gap = make_gap(passage.text, config, seed=seed, bodies=inside) if chosen else None
            yield gap or passage


def _is_chosen(digest: str, config: FimConfig, seed: int) -> bool:
    return place_of(digest, salt=f"fim:{seed}") < config.rate
