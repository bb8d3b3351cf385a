"""Lay out a fill-in-the-middle prompt as token ids, from the model's own FIM tokens.

         [BOS] [repo] name [sep] file text ... [sep] current file, then
    PSM  <pre> prefix <suf> suffix <mid> written
    SPM  <suf> suffix <pre> prefix written <mid>

Prefix, suffix, middle is the order that most code models are trained with. `written` is text before
the cursor that is laid out as if the model had written it already: with it the split can stay where
it was while someone types, and only what was typed has to be read. Text is tokenized without
parsing special tokens, so that source code which spells one out stays source code. Knows neither
HTTP nor llama_cpp; the tokenizer is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from serve.chat.errors import NoFimError

if TYPE_CHECKING:
    from serve.engine.model_info import ModelInfo

Tokenize = Callable[[str], list[int]]
Order = Literal["psm", "spm"]

# How the tokenizers of code models cut text before they merge: a letter's run takes one sign or
# blank along, signs take one blank, and the last of several blanks goes with what follows.
_LAST_PIECE = re.compile(r"(?:[^\r\n\w]|_)?[^\W\d_]+\Z| ?(?:[^\s\w]|_)+\Z|[ \t]\Z")

_REPOSITORY = "repository\n"
_CURRENT_FILE = "current\n"


class FimTokens(msgspec.Struct, frozen=True, kw_only=True):
    """Token ids that mark the parts; `repository` and `separator` only where the model has them."""

    prefix: int | None = None
    suffix: int | None = None
    middle: int | None = None
    repository: int | None = None
    separator: int | None = None
    bos: int | None = None

    @property
    def complete(self) -> bool:
        """Whether the model can fill in the middle."""
        return None not in {self.prefix, self.suffix, self.middle}


def fim_tokens(info: ModelInfo) -> FimTokens:
    """Return the ids that lay out a fill-in-the-middle prompt."""
    return FimTokens(
        prefix=info.fim_pre_token_id,
        suffix=info.fim_suf_token_id,
        middle=info.fim_mid_token_id,
        repository=info.fim_rep_token_id,
        separator=info.fim_sep_token_id,
        bos=info.bos_token_id if info.add_bos else None,
    )


class FimPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """The prompt, and whether text around the cursor had to be left out.

    `begins_with` is the end of what is written, which the answer has to begin with. `stop` ends it.
    """

    token_ids: list[int]
    is_cut: bool
    begins_with: str = ""
    stop: tuple[str, ...] = ()


class ExtraFile(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk of another file that the editor thinks is related."""

    filename: str
    text: str


def lay_out(
    tokens: FimTokens,
    tokenize: Tokenize,
    *,
    prefix: str,
    suffix: str,
    written: str = "",
    extra: Sequence[ExtraFile] = (),
    max_tokens: int | None = None,
    order: Order = "psm",
) -> FimPrompt:
    """Return the prompt, at most `max_tokens` long.

    What does not fit is left out farthest from the cursor first: the first extra files, then the
    start of the prefix and the end of the suffix, three parts of prefix kept to one of suffix, and
    the start of what is written last.

    Raises:
        NoFimError: the model cannot fill in the middle.
    """
    written, begins_with = _whole_words(written) if order == "psm" else (written, "")
    if tokens.prefix is None or tokens.suffix is None or tokens.middle is None:
        raise NoFimError(
            "this model has no fill-in-the-middle tokens; serve a code model that has them, "
            "Qwen2.5-Coder for example, or send the request without a suffix"
        )
    bos = [] if tokens.bos is None else [tokens.bos]
    room = None if max_tokens is None else max(max_tokens - len(bos) - 3, 0)
    done = tokenize(written) if written else []
    done = done if room is None else done[max(len(done) - room, 0) :]
    before, after = tokenize(prefix), tokenize(suffix)
    num_near = len(before) + len(after)
    before, after = _trim(before, after, None if room is None else room - len(done))
    left = None if room is None else room - len(before) - len(after) - len(done)
    context = [*bos, *_context(tokens, tokenize, extra, left)]
    near = [tokens.prefix, *before], [tokens.suffix, *after]
    if order == "spm":
        token_ids = [*context, *near[1], *near[0], *done, tokens.middle]
    else:
        token_ids = [*context, *near[0], *near[1], tokens.middle, *done]
    return FimPrompt(
        token_ids=token_ids,
        is_cut=len(before) + len(after) < num_near,
        begins_with=begins_with,
    )


def _whole_words(written: str) -> tuple[str, str]:
    """Split off the end that is, or may become, a part of a longer token: a word, blanks, signs.

    After half a token a model goes on badly; the answer begins with it instead.
    """
    match = _LAST_PIECE.search(written)
    return (written, "") if match is None else (written[: match.start()], match.group())


def _trim(before: list[int], after: list[int], room: int | None) -> tuple[list[int], list[int]]:
    """Cut both sides to `room` tokens, keeping what is nearest to the cursor."""
    if room is None or len(before) + len(after) <= room:
        return before, after
    room = max(room, 0)
    num_after = min(len(after), max(room // 4, room - len(before)))
    num_before = room - num_after
    return before[len(before) - num_before :], after[:num_after]


def _context(
    tokens: FimTokens, tokenize: Tokenize, extra: Sequence[ExtraFile], left: int | None
) -> list[int]:
    """Return the repository part; later files are nearer to the cursor and kept first."""
    if not extra or tokens.separator is None:
        return []
    head = [] if tokens.repository is None else [tokens.repository, *tokenize(_REPOSITORY)]
    tail = [tokens.separator, *tokenize(_CURRENT_FILE)]
    room = None if left is None else left - len(head) - len(tail)
    kept: list[list[int]] = []
    for file in reversed(extra):
        block = [tokens.separator, *tokenize(f"{file.filename}\n{file.text}\n")]
        if room is not None and len(block) > room:
            break
        room = None if room is None else room - len(block)
        kept.append(block)
    if not kept:
        return []
    return [*head, *(token for block in reversed(kept) for token in block), *tail]
