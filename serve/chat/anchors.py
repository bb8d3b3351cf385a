"""Ways to lay a gap out so that most of it was read before.

An anchor is a gap that was laid out earlier: its split into prefix and suffix, and what was written
at it since. Someone who types stays at the anchor; someone who moves leaves it, and takes the lines
above along. Text in, text out: knows no tokens, no cells and no HTTP.

    anchor   [ before ................ | after ...... | written ]
    typing   [ before ................ | after ...... | written, and more ]
    moved    [ before, written, lines moved over | after .... | written ]
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import msgspec

from serve.chat.fim import ExtraFile, Order  # noqa: TC001  # msgspec reads the field types
from serve.engine.prefix import common_prefix_length

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY_LINES = 3  # that tell where the window of lines begins
MAX_PLACES = 16  # where such lines may occur; blank ones occur everywhere
MIN_AFTER_LINES = 2  # after the cursor; with fewer the model writes on past them


class Lack(enum.IntEnum):
    """What a way leaves out of what was asked for.

    NOTHING: all of it is there, perhaps with older lines above it. SOME: fewer lines at the far
    ends. MUCH: a few lines around the cursor.
    """

    NOTHING = 0
    SOME = 1
    MUCH = 2


class Liberties(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be done to a fill-in-the-middle prompt so that less of it has to be read.

    All of them off is the plain prompt: everything before the cursor, everything after it.

    `order`: psm is what most code models are trained with; spm for those that know only that.
    `keep_split`: text typed since the last split counts as written by the model, so that the
    suffix, which comes before it, is not read again. The text is all there, split elsewhere.
    `kept_lines`: lines that an editor's window has slid past stay in front, up to so many: true
    lines of the file, only more of them. 0 for none.
    `keep_extra`: pieces of other files stay as they were read until the file around the cursor has
    to be read anyway.
    `cut`: when the wish of an editor for a prompt time (llama.vim's `t_max_prompt_ms`) would be
    missed, answer from fewer lines and read the rest in the background.
    `prompt_ms`: that wish for requests that say none; None waits for everything.
    `pause_seconds`: the background begins after this long without a keystroke, so that it reads
    what is there when someone stops, not every state on the way.
    """

    order: Order = "psm"
    keep_split: bool = True
    kept_lines: int = 512
    keep_extra: bool = True
    cut: bool = True
    prompt_ms: float | None = None
    pause_seconds: float = 1.5

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.kept_lines < 0 or self.pause_seconds < 0:
            raise ValueError("kept_lines and pause_seconds must not be negative")
        if self.prompt_ms is not None and self.prompt_ms <= 0:
            raise ValueError(f"prompt_ms is {self.prompt_ms}; it must be above 0")


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """What an editor asks: the text before and after its cursor, and pieces of other files."""

    before: str
    after: str
    extra: tuple[ExtraFile, ...] = ()


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """One way to lay a gap out."""

    before: str
    after: str
    written: str
    extra: tuple[ExtraFile, ...] = ()
    lack: Lack = Lack.NOTHING

    @property
    def text(self) -> str:
        """Return everything before the cursor."""
        return self.before + self.written

    def is_at(self, other: Way) -> bool:
        """Say whether both are split at the same place of the same text."""
        mine = (self.before, self.after, self.extra)
        return mine == (other.before, other.after, other.extra)


def plain(gap: Gap, liberties: Liberties) -> Way:
    """Return all of it and nothing else."""
    return split(gap.before, gap, liberties)


def split(text: str, gap: Gap, liberties: Liberties, lack: Lack = Lack.NOTHING) -> Way:
    """Split `text` before its last line, so that typing there moves nothing; a lone line after."""
    at = (text.rfind("\n") + 1 if liberties.keep_split else 0) or len(text)
    return Way(before=text[:at], written=text[at:], after=gap.after, extra=gap.extra, lack=lack)


def ways(gap: Gap, anchors: Sequence[Way], liberties: Liberties) -> Iterator[Way]:
    """Return the ways from each anchor; those that stay at it come first."""
    moved: list[Way] = []
    for anchor in anchors:
        if not liberties.keep_extra and anchor.extra != gap.extra:
            continue
        placed = _place(gap.before, anchor.text, liberties)
        if placed is None:
            continue
        text, lack = placed
        stays = _at(anchor, text, gap, lack) if liberties.keep_split else None
        if stays is not None:
            yield stays
        beginning = msgspec.structs.replace(gap, extra=anchor.extra)
        moved.append(split(text, beginning, liberties, max(lack, anchor.lack)))
    yield from moved


def _at(anchor: Way, text: str, gap: Gap, lack: Lack) -> Way | None:
    """Stay at an anchor whose split still holds; None when what follows the cursor is another."""
    if not text.startswith(anchor.before):
        return None
    if not anchor.after.startswith(gap.after):
        if not gap.after.startswith(anchor.after):
            return None
        few = anchor.after.count("\n") < MIN_AFTER_LINES
        lack = max(lack, Lack.MUCH if few else Lack.SOME)
    written = text[len(anchor.before) :]
    return msgspec.structs.replace(anchor, written=written, lack=max(lack, anchor.lack))


def _place(before: str, known: str, liberties: Liberties) -> tuple[str, Lack] | None:
    """Find where the window begins in the known text, or the known text in the window."""
    at = _find(_first_lines(before), known, before)
    if at is not None:
        num_kept = known.count("\n", 0, at)
        if num_kept and not liberties.kept_lines:
            return None
        return known[:at] + before, Lack.SOME if num_kept > liberties.kept_lines else Lack.NOTHING
    at = _find(_first_lines(known), before, known)
    if at is None or not liberties.cut or 2 * before.count("\n", 0, at) > before.count("\n"):
        return None
    return before[at:], Lack.SOME


def _first_lines(text: str) -> str:
    end = 0
    for _ in range(KEY_LINES):
        end = text.find("\n", end) + 1
        if not end:
            return text
    return text[:end]


def _find(key: str, text: str, wanted: str) -> int | None:
    """Return the line of `text` from which on it is most like `wanted`, which begins with `key`."""
    best, at = None, -1
    for _ in range(MAX_PLACES):
        at = text.find(key, at + 1) if key else -1
        if at < 0:
            break
        if at == 0 or text[at - 1] == "\n":
            shared = common_prefix_length(text[at:], wanted)
            best = max(best, (shared, at)) if best else (shared, at)
    return best[1] if best else None
