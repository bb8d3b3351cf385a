r"""Tell a model's thoughts from its answer.

    "<think>\nFirst, ...\n</think>\n\nThe answer"  →  Thought("First, ..."), "The answer"

Which marks stand around thoughts is read from the chat template; a template that spells out none
belongs to a model that does not think. Any split of the same text gives the same result. Knows
neither tool calls nor a dialect.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from serve.chat.template import ChatTemplate


class Marks(msgspec.Struct, frozen=True):
    """What opens and closes the thoughts of a family."""

    opening: str
    closing: str

    def left_open(self, prompt_end: str) -> bool:
        """Return whether a prompt ends within thoughts: some templates open them themselves."""
        return prompt_end.rstrip().endswith(self.opening)


FAMILIES = (
    Marks("<think>", "</think>"),  # Qwen, DeepSeek, GLM, SmolLM3, Granite
    Marks("<seed:think>", "</seed:think>"),  # Seed-OSS
    Marks("[THINK]", "[/THINK]"),  # Magistral
    Marks("<thinking>", "</thinking>"),
)


@functools.lru_cache(maxsize=8)
def marks_of(template: ChatTemplate) -> Marks | None:
    """Return the marks that the template spells out; None: the model does not think."""
    source = template.markup
    return next((marks for marks in FAMILIES if marks.closing in source), None)


class Thought(msgspec.Struct, frozen=True):
    """A piece of what the model thinks."""

    text: str


class ThoughtParser:
    """One answer's text in, thoughts and the answer out; white space beside a mark is markup.

    Thoughts stand before the answer: once it has begun, a mark in it is text.
    """

    def __init__(self, marks: Marks, *, inside: bool) -> None:
        """`inside`: the prompt has opened the thoughts already."""
        self._marks = marks
        self._text = ""  # not yet given out
        self._state = self._thinking if inside else self._before
        self._has_begun = False

    def push(self, text: str) -> list[str | Thought]:
        """Take new text and return what is certain now."""
        self._text += text
        return self._advance()

    def flush(self) -> list[str | Thought]:
        """Return the rest: no more text comes."""
        rest, self._text = self._text, ""
        if not rest or self._state == self._between:
            return []
        return [Thought(rest) if self._state == self._thinking else rest]

    def _advance(self) -> list[str | Thought]:
        pieces: list[str | Thought] = []
        state = None
        while state != self._state and self._text:
            state = self._state
            pieces += state()
        return pieces

    def _before(self) -> list[str | Thought]:
        """Wait until it is certain whether the answer opens with thoughts."""
        text, opening = self._text.lstrip(), self._marks.opening
        if text.startswith(opening):
            self._text = text.removeprefix(opening)
            self._state = self._thinking
        elif not opening.startswith(text):
            self._state = self._answering
        return []

    def _thinking(self) -> list[str | Thought]:
        if not self._has_begun:
            self._text = self._text.lstrip()
            self._has_begun = bool(self._text)
        thought, closing, rest = self._text.partition(self._marks.closing)
        if closing:
            self._text = rest
            self._state = self._between
            thought = thought.rstrip()
        else:
            thought = thought[: _certain(thought, self._marks.closing)]
            self._text = self._text[len(thought) :]
        return [Thought(thought)] if thought else []

    def _between(self) -> list[str | Thought]:
        """Leave out the white space before the answer."""
        self._text = self._text.lstrip()
        if self._text:
            self._state = self._answering
        return []

    def _answering(self) -> list[str | Thought]:
        text, self._text = self._text, ""
        return [text]


def _certain(text: str, closing: str) -> int:
    """Return how much of `text` stands before white space or anything that may begin `closing`."""
    for length in range(min(len(closing) - 1, len(text)), 0, -1):
        if text.endswith(closing[:length]):
            text = text[:-length]
            break
    return len(text.rstrip())
