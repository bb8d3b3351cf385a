"""The tokens that mark prefix, suffix and middle: the model's own, or new ones for a base without.

The families below are the ones whose tokens llama.cpp finds in a vocabulary by itself, so a server
lays out the same prompts. Knows tokenizers, no weights.
"""

from typing import Any

import msgspec

from finetune.data.tokens import end_of_text_id


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """How one family of models spells the marks; no `end` means its end of text."""

    prefix: str
    suffix: str
    middle: str
    end: str | None = None


NEW = Family(prefix="<|fim_prefix|>", suffix="<|fim_suffix|>", middle="<|fim_middle|>")
FAMILIES = (
    # CodeGemma ends a middle with its file separator, Qwen, which spells the marks alike, does not.
    msgspec.structs.replace(NEW, end="<|file_separator|>"),
    NEW,
    Family(prefix="<fim_prefix>", suffix="<fim_suffix>", middle="<fim_middle>"),
    Family(prefix="<fim-prefix>", suffix="<fim-suffix>", middle="<fim-middle>"),
    Family(prefix="▁<PRE>", suffix="▁<SUF>", middle="▁<MID>", end="▁<EOT>"),
    Family(  # DeepSeek: full-width bars, and U+2581 for blanks
        prefix="<\uff5cfim\u2581begin\uff5c>",
        suffix="<\uff5cfim\u2581hole\uff5c>",
        middle="<\uff5cfim\u2581end\uff5c>",
        end="<\uff5cend\u2581of\u2581sentence\uff5c>",
    ),
    Family(prefix="<|code_prefix|>", suffix="<|code_suffix|>", middle="<|code_middle|>"),
)


class FimTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Token ids of the marks and of what ends a middle; `new_ids` are to be trained."""

    prefix: int
    suffix: int
    middle: int
    end: int
    new_ids: tuple[int, ...] = ()


def find_fim_tokens(tokenizer: Any) -> FimTokens | None:
    """Return the marks a tokenizer has, or None."""
    vocabulary = tokenizer.get_vocab()
    for family in FAMILIES:
        marks = [family.prefix, family.suffix, family.middle]
        marks += [family.end] if family.end else []
        if all(mark in vocabulary for mark in marks):
            return _tokens(tokenizer, family)
    return None


def ensure_fim_tokens(tokenizer: Any) -> FimTokens:
    """Return the tokenizer's marks; one that has none gets new special tokens."""
    found = find_fim_tokens(tokenizer)
    if found is not None:
        return found
    tokenizer.add_tokens([NEW.prefix, NEW.suffix, NEW.middle], special_tokens=True)
    tokens = _tokens(tokenizer, NEW)
    return msgspec.structs.replace(tokens, new_ids=(tokens.prefix, tokens.suffix, tokens.middle))


def _tokens(tokenizer: Any, family: Family) -> FimTokens:
    vocabulary = tokenizer.get_vocab()
    return FimTokens(
        prefix=vocabulary[family.prefix],
        suffix=vocabulary[family.suffix],
        middle=vocabulary[family.middle],
        end=vocabulary[family.end] if family.end else end_of_text_id(tokenizer),
    )
