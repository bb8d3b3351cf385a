"""Log probabilities in the shapes of the two OpenAI dialects."""

from __future__ import annotations

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
    tokens = [_text(each.text) for each in logprobs]
    ends = itertools.accumulate(map(len, tokens), initial=offset)
    return CompletionLogprobs(
        tokens=tokens,
        token_logprobs=[each.logprob for each in logprobs],
        top_logprobs=[{_text(top.text): top.logprob for top in each.top} for each in logprobs],
        text_offset=list(ends)[:-1],
    )


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
