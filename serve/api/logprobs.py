"""Log probabilities in the shapes of the two OpenAI dialects."""

from __future__ import annotations

import codecs
import itertools
from typing import TYPE_CHECKING

from serve.api.chat_schemas import ChatLogprobs, LogprobAlternative, LogprobEntry
from serve.api.completion_schemas import CompletionLogprobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.engine.request import TokenLogprob


def for_chat(logprobs: Sequence[TokenLogprob]) -> ChatLogprobs | None:
    """Return a list of entries, None when none were asked for."""
    if not logprobs:
        return None
    return ChatLogprobs([_entry(each) for each in logprobs])


def for_completion(logprobs: Sequence[TokenLogprob], offset: int) -> CompletionLogprobs | None:
    """Return parallel lists; `offset` is where the first token starts in the text."""
    if not logprobs:
        return None
    return _parallel(logprobs, [offset + start for start in _starts(logprobs)[:-1]])


def for_prompt(logprobs: Sequence[TokenLogprob], end: int) -> CompletionLogprobs | None:
    """Return parallel lists for all but the first token of an echo that is `end` characters long.

    The tokens may hold a BOS before the text, so places are counted from its end.
    """
    if not logprobs:
        return None
    *starts, length = _starts(logprobs)
    return _parallel(logprobs, [max(end - length + start, 0) for start in starts])


def unforeseen(token: bytes) -> CompletionLogprobs:
    """Return the entry of a token before which there is nothing."""
    return CompletionLogprobs(
        tokens=[_text(token)], token_logprobs=[None], top_logprobs=[None], text_offset=[0]
    )


def joined(*parts: CompletionLogprobs | None) -> CompletionLogprobs | None:
    """Return the lists of all parts, one behind the other."""
    known = [part for part in parts if part is not None]
    if not known:
        return None
    names = CompletionLogprobs.__struct_fields__
    return CompletionLogprobs(
        **{name: [each for part in known for each in getattr(part, name)] for name in names}
    )


def _parallel(logprobs: Sequence[TokenLogprob], offsets: list[int]) -> CompletionLogprobs:
    return CompletionLogprobs(
        tokens=[_text(each.text) for each in logprobs],
        token_logprobs=[each.logprob for each in logprobs],
        top_logprobs=[{_text(top.text): top.logprob for top in each.top} for each in logprobs],
        text_offset=offsets,
    )


def _starts(logprobs: Sequence[TokenLogprob]) -> list[int]:
    """Return where each token starts in their text, and its length; characters may be split."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    lengths = [len(decoder.decode(each.text)) for each in logprobs]
    return list(itertools.accumulate(lengths, initial=0))


def _entry(each: TokenLogprob) -> LogprobEntry:
    return LogprobEntry(
        token=_text(each.text),
        logprob=each.logprob,
        bytes=list(each.text),
        top_logprobs=[
            LogprobAlternative(token=_text(top.text), logprob=top.logprob, bytes=list(top.text))
            for top in each.top
        ],
    )


def _text(token: bytes) -> str:
    """Show a token that is part of a character with replacement marks; `bytes` has the truth."""
    return token.decode("utf-8", errors="replace")
