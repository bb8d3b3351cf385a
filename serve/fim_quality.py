"""What the liberties with FIM prompts cost in quality: lines of real files, guessed either way.

    python -m serve.fim_quality --model GGUF --out cases.jsonl [--first 0] [--count 40] FILE ...

For development. Each case is a line of a file that the model completes greedily, once from the
plain prompt and once from the prompt that a server would lay out for someone who has typed up to
there: split some lines above, that text counted as written. Prints how many lines were met exactly
by each, over all cases in the output file, so that a long run can be made in pieces.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from functools import partial
from math import comb
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve.chat.anchors import Gap, Liberties
from serve.chat.fim import fim_tokens
from serve.chat.fim_plan import FimPlanner
from serve.engine.engine import Engine, EngineConfig
from serve.engine.request import GenerationRequest, Priority, SamplingParams, TextDelta

if TYPE_CHECKING:
    from collections.abc import Iterator

LINES_BEFORE = 30
LINES_AFTER = 10
LINES_APART = 8
CASES_PER_FILE = 5
MOST_TYPED_LINES = 7
BUDGET_TOKENS = 25
PLAIN = Liberties(keep_split=False, kept_lines=0, keep_extra=False, cut=False, pause_seconds=0)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A line to be guessed; `typed` of its characters are there, and `num_lines` typed above."""

    file: str
    line: int
    typed: int
    num_lines: int


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What was wanted and what came, by prompt: plain, typing, and cut to half a second."""

    place: Place
    wanted: str
    plain: str
    typing: str
    cut: str


def places(files: list[Path]) -> Iterator[Place]:
    """Choose lines with something to guess, the same ones each time."""
    for file in files:
        draw = random.Random(file.name)  # noqa: S311  # which lines, not a secret
        lines = file.read_text("utf-8").splitlines()
        at = draw.randrange(LINES_BEFORE, max(len(lines) - 80, LINES_BEFORE + 1))
        for number in range(CASES_PER_FILE):
            line = at + number * LINES_APART
            while line < len(lines) and not _is_worth_it(lines[line]):
                line += 1
            if line >= len(lines) - LINES_AFTER:
                break
            indent = len(lines[line]) - len(lines[line].lstrip())
            typed = indent + draw.choice((0, 2, 5))
            num_lines = draw.randint(0, MOST_TYPED_LINES)
            yield Place(file=str(file), line=line, typed=typed, num_lines=num_lines)


def _is_worth_it(line: str) -> bool:
    text = line.strip()
    return len(text) >= 12 and not text.startswith(("#", '"""', "'''"))


class Guesser:
    """Completes lines with a loaded model."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def case(self, place: Place, lines: list[str]) -> Case:
        """Guess a line in each way."""
        gap = _gap(lines, place)
        above = "".join(gap.before.splitlines(keepends=True)[: -place.num_lines - 1])
        anchor = Gap(before=above, after=gap.after)
        return Case(
            place=place,
            wanted=lines[place.line].rstrip("\n")[place.typed :],
            plain=await self._guess(self._planner(PLAIN), gap, None),
            typing=await self._guess(self._planner(Liberties(), anchor), gap, None),
            cut=await self._guess(self._planner(Liberties(), is_cold=True), gap, BUDGET_TOKENS),
        )

    def _planner(
        self, liberties: Liberties, anchor: Gap | None = None, *, is_cold: bool = False
    ) -> FimPlanner:
        tokenize = partial(self._engine.tokenize, add_special=False, parse_special=False)
        tokens = fim_tokens(self._engine.model_info)
        ready = (lambda _: 0) if is_cold else len
        planner = FimPlanner(tokens, tokenize, liberties, ready)
        if anchor is not None:
            planner.plan(anchor, max_tokens=None)
        return planner

    async def _guess(self, planner: FimPlanner, gap: Gap, budget: int | None) -> str:
        plan = planner.plan(gap, max_tokens=None, budget=budget)
        request = GenerationRequest(
            prompt_token_ids=plan.now.prompt.token_ids,
            sampling=SamplingParams(temperature=0.0),
            stop=("\n",),
            max_tokens=40,
            priority=Priority.FIM,
            begins_with=plan.now.prompt.begins_with,
        )
        events = [event async for event in self._engine.submit(request)]
        return "".join(event.text for event in events if isinstance(event, TextDelta))


def _gap(lines: list[str], place: Place) -> Gap:
    """Return what an editor sends; the window begins where it did for cases before, mostly."""
    line = place.line
    start = max(line - LINES_BEFORE - line % (LINES_APART * CASES_PER_FILE), 0)
    before = "".join(lines[start:line]) + lines[line][: place.typed]
    return Gap(before=before, after="\n" + "".join(lines[line + 1 : line + 1 + LINES_AFTER]))


def report(cases: list[Case]) -> str:
    """Say how many lines each prompt met, and how likely the difference is by chance alone."""
    met = {
        name: [getattr(case, name).rstrip() == case.wanted.rstrip() for case in cases]
        for name in ("plain", "typing", "cut")
    }
    pairs = list(zip(met["plain"], met["typing"], strict=True))
    won, lost = pairs.count((False, True)), pairs.count((True, False))
    counts = ", ".join(f"{name} {sum(each)}" for name, each in met.items())
    return (
        f"{len(cases)} lines; met exactly: {counts}; typing alone {won}, plain alone {lost}, "
        f"two-sided sign test p = {_sign_test(won, lost):.2f}"
    )


def _sign_test(won: int, lost: int) -> float:
    num = won + lost
    tail: float = sum(comb(num, k) for k in range(min(won, lost) + 1)) / 2**num
    return min(2.0 * tail, 1.0)


def _read(file: str) -> str:
    return Path(file).read_text("utf-8")


async def _run(model: Path, chosen: list[Place], out: Path) -> None:
    texts = {place.file: await asyncio.to_thread(_read, place.file) for place in chosen}
    engine = await asyncio.to_thread(
        Engine.load, EngineConfig(model=str(model), context_length=2048, slots=2)
    )
    try:
        guesser = Guesser(engine)
        with out.open("ab") as file:
            for number, place in enumerate(chosen, start=1):
                lines = texts[place.file].splitlines(keepends=True)
                file.write(msgspec.json.encode(await guesser.case(place, lines)) + b"\n")
                file.flush()
                print(f"{number}/{len(chosen)}", end="\r", file=sys.stderr)
    finally:
        await asyncio.to_thread(engine.close)


def main() -> None:
    """Guess the cases asked for and report on all that were ever made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a GGUF with FIM tokens")
    parser.add_argument("--out", type=Path, required=True, help="cases, one a line; appended to")
    parser.add_argument("--first", type=int, default=0, help="skip so many cases")
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("files", type=Path, nargs="+")
    args = parser.parse_args()
    chosen = list(places(args.files))[args.first : args.first + args.count]
    asyncio.run(_run(args.model, chosen, args.out))
    lines = args.out.read_bytes().splitlines()
    print(report([msgspec.json.decode(line, type=Case) for line in lines]))


if __name__ == "__main__":
    main()
