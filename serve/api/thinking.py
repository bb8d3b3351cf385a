"""What chat dialects share about thoughts: whether an answer may hold some.

Knows no dialect's answer; the marks are the chat room's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serve.chat.reasoning import Marks, ThoughtParser, marks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.api.served import Served

_MARK_TOKENS = 16
"""So many last tokens of a prompt are enough to see a mark at its end."""


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    """The family's marks, and whether the prompt has opened the thoughts already."""

    marks: Marks
    inside: bool

    def parser(self) -> ThoughtParser:
        """Return a reader of one answer."""
        return ThoughtParser(self.marks, inside=self.inside)


def thinks(served: Served) -> bool:
    """Return whether the model's template knows thoughts."""
    return served.template is not None and marks_of(served.template) is not None


def thinking_of(
    served: Served, token_ids: Sequence[int], reasoning_format: str | None = None
) -> Thinking | None:
    """Return how to read thoughts in the answer to a prompt.

    None where the model does not think, or where the client wants the text as it stands.
    """
    marks = marks_of(served.chat_template())
    if marks is None or reasoning_format == "none":
        return None
    end = served.engine.detokenize(token_ids[-_MARK_TOKENS:])
    return Thinking(marks=marks, inside=marks.left_open(end))
