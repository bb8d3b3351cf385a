"""Fill in the middle: a text with a part cut out, and how its three parts are laid out as tokens.

    PSM    <prefix> prefix <suffix> suffix <middle> | middle <end> |
    SPM    <suffix> suffix <prefix> prefix <middle> | middle <end> |
                                                     carries loss

The parts are tokenized apart, as a server does it, and SPM is laid out as llama.cpp's server and
this project's send it. Source: Bavarian et al. 2022, "Efficient Training of Language Models to Fill
in the Middle"; there the whole text carries loss, which `loss = "whole"` does. Knows no files.
"""

import random
from typing import Any, Literal

import msgspec

from finetune.data.tokens import IGNORED, Encoded, leading_ids, token_ids
from finetune.fingerprint import sha256_json
from finetune.recipes.fim_tokens import FimTokens
from finetune.recipes.settings import FimConfig
from finetune.recipes.spans import Span, choose_span, function_bodies

Order = Literal["psm", "spm"]
MIN_CHARACTERS = 20
NUM_MARKS = 4


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A text with a part cut out; the `middle` is to be learnt."""

    id: str
    prefix: str
    middle: str
    suffix: str
    order: Order


def make_gap(
    text: str, config: FimConfig, *, seed: int, bodies: list[list[Span]] | None = None
) -> Gap | None:
    """Cut a text; what is cut depends on seed and text alone. A text too short gives None.

    `bodies` are the statements of its functions, where they are known from a larger text.
    """
    if len(text.strip()) < MIN_CHARACTERS:
        return None
    chance = random.Random(f"{seed}:{sha256_json(text)}")  # noqa: S311  # a choice, not a secret
    order: Order = "spm" if chance.random() < config.spm_rate else "psm"
    span = choose_span(text, function_bodies(text) if bodies is None else bodies, config, chance)
    if span is None:
        return None
    start, end = span
    return Gap(
        id=sha256_json([text, start, end, order]),
        prefix=text[:start],
        middle=text[start:end],
        suffix=text[end:],
        order=order,
    )


def encode_gap(
    gap: Gap, tokenizer: Any, tokens: FimTokens, *, whole: bool, max_length: int
) -> Encoded | None:
    """Lay out a gap; context that does not fit is left out, farthest from the gap first.

    Returns None when the middle alone is too long.
    """
    bos = leading_ids(tokenizer)
    middle = token_ids(tokenizer, gap.middle)
    room = max_length - len(bos) - NUM_MARKS - len(middle)
    if room < 0:
        return None
    before, after = token_ids(tokenizer, gap.prefix), token_ids(tokenizer, gap.suffix)
    before, after = _nearest(before, after, room)
    parts = [[tokens.prefix, *before], [tokens.suffix, *after]]
    if gap.order == "spm":
        parts.reverse()
    context = [*bos, *parts[0], *parts[1], tokens.middle]
    answer = [*middle, tokens.end]
    known = context if whole else [IGNORED] * len(context)
    return Encoded(id=gap.id, input_ids=context + answer, labels=known + answer)


def _nearest(before: list[int], after: list[int], room: int) -> tuple[list[int], list[int]]:
    """Keep what is nearest to the gap: a quarter of the room for the suffix, more if it is free."""
    num_after = min(len(after), max(room // 4, room - len(before)))
    num_before = min(len(before), room - num_after)
    return before[len(before) - num_before :], after[:num_after]
