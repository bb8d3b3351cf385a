"""An edit as text: what to ask, how to read the answer, what it changes in the file.

Keeps what the instruction did not touch byte for byte, line endings included. Knows neither HTTP
nor where files lie.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from typing import TYPE_CHECKING

from clients.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.context.neighbours import Neighbour

SYSTEM = (
    "You edit files. Answer with the whole file after the edit, in one code block and nothing "
    "else. Change only what the instruction asks for."
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_FENCE = re.compile(r"^(`{3,})[^`\n]*$", re.MULTILINE)


class UnusableAnswerError(ClientError):
    """The model's answer is no whole file; nothing may be applied."""


def messages(
    name: str, text: str, instruction: str, neighbours: Sequence[Neighbour] = ()
) -> list[dict[str, str]]:
    """Return the conversation that asks for an edit.

    The instruction comes last: a second one for the same file finds the rest read already.
    """
    parts = [_fenced(f"{each.filename}, for reference only:", each.text) for each in neighbours]
    parts += [_fenced(f"{name}, to be edited:", text), instruction]
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "\n\n".join(parts)},
    ]


def _fenced(title: str, text: str) -> str:
    fence = fence_for(text)
    return f"{title}\n{fence}\n{text.rstrip()}\n{fence}"


def fence_for(text: str) -> str:
    """Return a fence longer than any that the text holds."""
    longest = max((len(match[1]) for match in _FENCE.finditer(text)), default=2)
    return "`" * max(3, longest + 1)


def whole_file(answer: str, finish_reason: str | None) -> str:
    """Take the file out of an answer, with LF line ends.

    Raises:
        UnusableAnswerError: it was cut off, or holds not exactly one block.
    """
    if finish_reason == "length":
        raise UnusableAnswerError(
            "the answer was cut off at the token limit, so nothing was changed; raise "
            "--max-tokens or serve with a larger context"
        )
    normal = answer.replace("\r\n", "\n")
    opening = _FENCE.search(normal)
    if opening is None:
        raise UnusableAnswerError("the answer holds no code block, so nothing was changed")
    start = opening.end() + 1
    closing = list(re.finditer(rf"^{opening[1]}`*[ \t]*$", normal[start:], re.MULTILINE))
    if not closing:
        raise UnusableAnswerError("the answer's code block has no end, so nothing was changed")
    if len(closing) > 1:
        raise UnusableAnswerError("the answer holds several code blocks; nothing was changed")
    return normal[start : start + closing[0].start()]


def shown(text: str) -> str:
    """Return text as a model may read it: bytes that are no UTF-8 become U+FFFD."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def merge(original: str, edited: str) -> str:
    """Return the edited text with the original's line ends, byte order mark and end of file.

    Lines that are the same keep their bytes; new lines end as most of the file's lines do. Bytes
    of the original that are no UTF-8 stand in it as surrogates (PEP 383).

    Raises:
        UnusableAnswerError: a line that holds such bytes would change, and they would be lost.
    """
    mark = "\ufeff" if original.startswith("\ufeff") else ""
    before = _LINE.findall(original.removeprefix(mark))
    old = [_bare(shown(line)) for line in before]
    new = [_bare(line) for line in _LINE.findall(edited.removeprefix(mark))]
    ending = _usual_ending(before)
    merged: list[str] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            merged += before[old_start:old_end]
        else:
            _refuse_damage(before[old_start:old_end], new[new_start:new_end])
            merged += [line + ending for line in new[new_start:new_end]]
    whole = mark + "".join(line if line != _bare(line) else line + ending for line in merged)
    has_last_end = _bare(original) != original
    return whole if has_last_end else whole.removesuffix(ending)


def _refuse_damage(before: list[str], after: list[str]) -> None:
    """Let a line with bytes that are no UTF-8 go, but let it not come back without them."""
    has_other_bytes = any(shown(line) != line for line in before)
    if has_other_bytes and any("\ufffd" in line for line in after):
        raise UnusableAnswerError(
            "the answer changes a line that holds bytes which are no UTF-8, and they would be "
            "lost, so nothing was changed; convert the file first"
        )


def unified(original: str, edited: str, name: str) -> str:
    """Return the difference as a patch, empty when there is none."""
    lines = difflib.unified_diff(
        _LINE.findall(original), _LINE.findall(edited), f"a/{name}", f"b/{name}"
    )
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines
    )


def _bare(line: str) -> str:
    return line.rstrip("\r\n")


def _usual_ending(lines: list[str]) -> str:
    endings = Counter(line[len(_bare(line)) :] for line in lines)
    endings.pop("", None)
    return endings.most_common(1)[0][0] if endings else "\n"
