"""`fim FILE:LINE[:COL]`: what belongs at a place in a file.

Knows files and places; the server lays out the model's fill-in-the-middle prompt.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clients.commands.connection import add_sampling_flags, add_server_flags, connected, sampling
from clients.commands.flags import refuse
from clients.commands.source import read_source
from clients.commands.surroundings import add_context_flags, context_of
from clients.commands.terminal import note, note_cut, write_json
from clients.errors import BadRequestError, ContextLengthError, NotFoundError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from clients.client import Client
    from clients.context.neighbours import Neighbour
    from clients.wire import Usage

EXAMPLES = """\
examples:
  python -m clients fim src/app.py:42
  python -m clients fim src/app.py:42:9 --context src/model.py --max-tokens 128
"""


_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?::(?P<column>\d+))?")


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """The text around a cursor. `line` and `column` count from 1."""

    line: int
    column: int
    prefix: str
    suffix: str


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a gap. `route` is the one that answered."""

    text: str
    route: str
    finish_reason: str | None
    usage: Usage | None


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "place",
        metavar="FILE:LINE[:COL]",
        help="the cursor, counted from 1; without COL the end of the line",
    )
    parser.add_argument("--prefix-lines", type=int, default=256, metavar="N")
    parser.add_argument("--suffix-lines", type=int, default=64, metavar="N")
    parser.add_argument(
        "--route",
        choices=("auto", "infill", "completions"),
        default="auto",
        help="auto: /infill, and /v1/completions with a suffix where the server lacks it",
    )
    add_context_flags(parser)
    add_server_flags(parser)
    add_sampling_flags(parser, max_tokens=64)
    parser.add_argument("--json", action="store_true", help="write text, route and usage as JSON")


def run(args: argparse.Namespace) -> int:
    """Write the text that goes into the gap."""
    file, line, column = parse_place(args.place)
    text = read_source(file)
    gap = cut(text, line, column, where=str(file))
    gap = trimmed(gap, num_prefix_lines=args.prefix_lines, num_suffix_lines=args.suffix_lines)
    context: Sequence[Neighbour] = ()
    if args.route == "completions":
        refuse(args, {"context": []}, "sent to /infill only, not with --route completions")
    else:
        context = context_of(args, file, text).neighbours
    with connected(args) as client:
        filling = fill(client, gap, context, args)
    if args.json:
        write_json(filling)
    else:
        sys.stdout.write(filling.text + ("\n" if sys.stdout.isatty() else ""))
        note_cut(filling.finish_reason)
    return 0


def parse_place(place: str) -> tuple[Path, int, int | None]:
    """Read FILE:LINE[:COL].

    Raises:
        UsageError: it has no line.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UsageError(f"{place!r} is no place; expected FILE:LINE or FILE:LINE:COL")
    column = match["column"]
    return Path(match["file"]), int(match["line"]), int(column) if column else None


def cut(text: str, line: int, column: int | None, *, where: str) -> Gap:
    """Split text at a cursor. The cursor may stand behind a line's last character.

    Raises:
        UsageError: there is no such line or column; says how many there are.
    """
    lines = _lines(text)
    if not 1 <= line <= len(lines):
        raise UsageError(f"{where} has {len(lines)} lines; there is no line {line}")
    num_columns = len(lines[line - 1].rstrip("\r\n")) + 1
    column = num_columns if column is None else column
    if not 1 <= column <= num_columns:
        raise UsageError(f"line {line} of {where} has columns 1 to {num_columns}, not {column}")
    at = sum(map(len, lines[: line - 1])) + column - 1
    return Gap(line=line, column=column, prefix=text[:at], suffix=text[at:])


def trimmed(gap: Gap, *, num_prefix_lines: int, num_suffix_lines: int) -> Gap:
    """Keep that many whole lines before and after the cursor's own."""
    before = _lines(gap.prefix)[-(num_prefix_lines + 1) :]
    after = _lines(gap.suffix)[: num_suffix_lines + 1]
    return msgspec.structs.replace(gap, prefix="".join(before), suffix="".join(after))


def _lines(text: str) -> list[str]:
    """Split behind LF, CR and CRLF; a text that ends a line has an empty last one."""
    return re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)


def fill(
    client: Client, gap: Gap, context: Sequence[Neighbour], args: argparse.Namespace
) -> Filling:
    """Ask for the gap's text, by the route that the server has.

    Raises:
        UsageError: it has none.
    """
    if args.route != "completions":
        try:
            extra = [{"filename": each.filename, "text": each.text} for each in context]
            infill = client.fim(gap.prefix, gap.suffix, context=extra, **sampling(args))
        except NotFoundError:
            if args.route == "infill":
                raise
            note("the server has no /infill; asking /v1/completions with a suffix, no neighbours")
        else:
            return Filling(
                text=infill.text,
                route="infill",
                finish_reason=infill.finish_reason,
                usage=infill.usage,
            )
    return _fill_by_completion(client, gap, args)


def _fill_by_completion(client: Client, gap: Gap, args: argparse.Namespace) -> Filling:
    try:
        answer = client.complete(gap.prefix, suffix=gap.suffix, **sampling(args))
    except ContextLengthError:
        raise
    except (BadRequestError, NotFoundError) as error:
        raise UsageError(
            f"the server does not fill in the middle: {error}; serve a model that was trained "
            "for it, such as a Qwen2.5-Coder"
        ) from error
    return Filling(
        text=answer.text,
        route="completions",
        finish_reason=answer.finish_reason,
        usage=answer.usage,
    )
