"""Measure what neighbours are worth, and what their order saves.

    python -m clients.context.measure calls --folder . --base-url URL [--limit 20]
    python -m clients.context.measure order --session write-117 --folder . --base-url URL
    python -m clients.context.measure infilling --data FOLDER --base-url URL

calls: in the sources of a repository, the arguments of calls to imported functions are cut out and
asked for, without and with neighbours; the share that comes back exactly as it was.

order: the beginning of a recorded editing session, with the neighbours of `--file` and a region
edited in another file at every few requests: the tokens that the server did not have to read
again, in the order that is sent and with the newest first.

infilling: lines of HumanEval's infilling problems, alone and with files open that do not matter.
Those problems import nothing, so that this shows what neighbours cost, not what they are worth.

calls and infilling ask for one gap in two ways. This project's server keeps the pieces that it read
first (docs/keystrokes.md); for these measurements start it with `--set fim.keep_extra=false`.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from clients.bench.keystrokes import sessions
from clients.commands.connection import add_server_flags, connected
from clients.commands.terminal import note, write_json
from clients.context.imports import imported_files
from clients.context.neighbours import Neighbour, gather, repository_of
from clients.errors import ClientError, UsageError
from clients.evaluate.problems import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clients.client import Client
    from clients.evaluate.problems import Problem
    from clients.wire import Infill

PREFIX_CHARS = 1200
SUFFIX_CHARS = 300
REQUESTS_PER_EDIT = 4
_LEAST_ARGUMENT_CHARS = 4


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of one call, cut out of a file."""

    file: Path
    prefix: str
    wanted: str
    suffix: str


class Arm(msgspec.Struct, kw_only=True):
    """What was counted one way. Tokens are the server's own counts."""

    name: str
    num_requests: int = 0
    num_exact: int = 0
    prompt_tokens: int = 0
    read_tokens: int = 0

    def add(self, answer: Infill, *, is_exact: bool) -> None:
        """Count an answer."""
        self.num_requests += 1
        self.num_exact += is_exact
        self.prompt_tokens += answer.tokens_evaluated or 0
        self.read_tokens += (answer.timings.prompt_n if answer.timings else None) or 0


def gaps(folder: Path, *, limit: int, seed: int) -> list[Gap]:
    """Return calls of functions that a file imports from its repository, drawn by `seed`."""
    found: list[Gap] = []
    for file in sorted(folder.rglob("*.py")):
        text = file.read_text("utf-8")
        names = {
            name for each in imported_files(file, text, repository_of(file)) for name in each.names
        }
        found += _calls(file, text, names)
    if not found:
        raise UsageError(f"{folder} has no Python file that calls what it imports from another")
    random.Random(seed).shuffle(found)  # noqa: S311  # a choice of examples, no secret
    return found[:limit]


def _calls(file: Path, text: str, names: set[str]) -> Iterator[Gap]:
    """Cut the arguments out of each call that stands on one line."""
    starts = [0]
    for each in text.encode().split(b"\n"):
        starts.append(starts[-1] + len(each) + 1)
    raw = text.encode()
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        line, end_line = node.func.end_lineno or 0, node.end_lineno or 0
        start = starts[line - 1] + (node.func.end_col_offset or 0) + 1
        end = starts[end_line - 1] + (node.end_col_offset or 0) - 1
        if node.func.id in names and line == end_line and end - start >= _LEAST_ARGUMENT_CHARS:
            yield Gap(
                file=file,
                prefix=raw[:start].decode()[-PREFIX_CHARS:],
                wanted=raw[start:end].decode(),
                suffix=raw[end:].decode()[:SUFFIX_CHARS],
            )


def fills(gap: Gap, line: str) -> bool:
    """Say whether a line is what was cut out; it may end there or go on as the suffix does."""
    return (line + gap.suffix).startswith(gap.wanted + gap.suffix[:1])


def calls(client: Client, wanted: Sequence[Gap], *, max_tokens: int) -> list[Arm]:
    """Ask for every gap without and with neighbours."""
    arms = [Arm(name="without neighbours"), Arm(name="with neighbours")]
    for number, gap in enumerate(wanted, start=1):
        context = gather(gap.file, gap.file.read_text("utf-8"), (), max_tokens=max_tokens)
        for arm, chosen in zip(arms, ((), context.neighbours), strict=True):
            answer = _ask(client, gap.prefix, gap.suffix, chosen, max_tokens=32)
            line = answer.text.partition("\n")[0]
            arm.add(answer, is_exact=fills(gap, line))
        note(f"{number}/{len(wanted)}: {', '.join(f'{arm.name} {arm.num_exact}' for arm in arms)}")
    return arms


def infilling(
    client: Client, problems: Sequence[Problem], *, limit: int, max_tokens: int, seed: int
) -> list[Arm]:
    """Ask for the lines of some problems, alone and with others' code open beside them."""
    drawn = list(problems)
    random.Random(seed).shuffle(drawn)  # noqa: S311  # a choice of examples, no secret
    wanted, room, opened = drawn[:limit], max_tokens, []
    asked = {each.entry_point for each in wanted}
    for each in drawn[limit:]:
        piece = Neighbour(
            filename=f"{each.entry_point}.py", text=each.prompt + each.solution + each.suffix
        )
        if each.entry_point not in asked and piece.num_tokens <= room:
            opened.append(piece)
            asked.add(each.entry_point)
            room -= piece.num_tokens
    arms = [Arm(name="alone"), Arm(name=f"with {len(opened)} files open")]
    for number, each in enumerate(wanted, start=1):
        for arm, chosen in zip(arms, ((), opened), strict=True):
            answer = _ask(client, each.prompt, each.suffix, chosen, max_tokens=48)
            line = answer.text.strip("\n").partition("\n")[0]
            arm.add(answer, is_exact=line.strip() == each.solution.strip())
        note(f"{number}/{len(wanted)}: {', '.join(f'{arm.name} {arm.num_exact}' for arm in arms)}")
    return arms


def order(
    client: Client, session: str, context: Sequence[Neighbour], *, num_requests: int
) -> list[Arm]:
    """Replay a session; at every few requests one neighbour more counts as edited."""
    strokes = [each for each in sessions.load(session) if not each.is_warm_up][:num_requests]
    arms = [Arm(name="newest last"), Arm(name="newest first")]
    for arm in arms:
        for number, stroke in enumerate(strokes):
            known = list(context[: 1 + number // REQUESTS_PER_EDIT])
            chosen = known if arm.name == "newest last" else known[::-1]
            before = stroke.body["input_prefix"] + stroke.body["prompt"]
            after = stroke.body["input_suffix"]
            mark = f"# {arm.name}\n"  # no arm finds what the other left in the server's cache
            marked = [Neighbour(filename=each.filename, text=mark + each.text) for each in chosen]
            answer = _ask(client, before, after, marked, max_tokens=1)
            arm.add(answer, is_exact=False)
            done = f"{arm.name}, {number + 1}/{len(strokes)}"
            note(f"{done}: {arm.read_tokens} of {arm.prompt_tokens} tokens read")
    return arms


def _ask(
    client: Client, prefix: str, suffix: str, context: Sequence[Neighbour], *, max_tokens: int
) -> Infill:
    extra = [{"filename": each.filename, "text": each.text} for each in context]
    return client.fim(prefix, suffix, context=extra, max_tokens=max_tokens, temperature=0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m clients.context.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("calls", "order", "infilling"))
    parser.add_argument("--folder", type=Path, default=Path(), help="a repository")
    parser.add_argument("--file", type=Path, help="order: whose neighbours are sent")
    parser.add_argument("--data", type=Path, help="infilling: the folder of the suites")
    parser.add_argument("--session", choices=sessions.names(), default="write-117")
    parser.add_argument("--limit", type=int, default=20, help="gaps or requests (default: 20)")
    parser.add_argument("--context-tokens", type=int, default=512, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    add_server_flags(parser)
    args = parser.parse_args(argv)
    try:
        write_json(_measure(args))
    except ClientError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _measure(args: argparse.Namespace) -> list[Arm]:
    if args.limit < 1:
        raise UsageError(f"--limit is {args.limit}; it must be 1 or more")
    if args.what == "calls":
        wanted = gaps(args.folder.resolve(), limit=args.limit, seed=args.seed)
        with connected(args) as client:
            return calls(client, wanted, max_tokens=args.context_tokens)
    if args.what == "infilling":
        problems = load("humaneval-infilling", args.data)
        with connected(args) as client:
            return infilling(
                client,
                problems,
                limit=args.limit,
                max_tokens=args.context_tokens,
                seed=args.seed,
            )
    if args.file is None or not args.file.is_file():
        raise UsageError(f"--file is {args.file}; name a source file whose neighbours are sent")
    text = args.file.read_text("utf-8")
    context = gather(args.file, text, (), max_tokens=args.context_tokens).neighbours
    with connected(args) as client:
        return order(client, args.session, context, num_requests=args.limit)


if __name__ == "__main__":
    raise SystemExit(main())
