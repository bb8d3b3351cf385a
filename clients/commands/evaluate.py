"""`evaluate`: have a model solve programming problems, run the solutions safely, score them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clients.commands.connection import add_server_flags, async_client, connected
from clients.commands.progress import progress
from clients.commands.terminal import note, write_json
from clients.errors import ClientError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from clients.evaluate.generate import Plan
    from clients.evaluate.problems import Problem
    from clients.evaluate.samples import Result, Sample
    from clients.evaluate.sandbox import Sandbox
    from clients.evaluate.scoring import Score

EXAMPLES = """\
examples:
  python -m clients evaluate --data DIR --suite humaneval --samples mine.jsonl
  python -m clients evaluate --data DIR --n 10 --temperature 0.8 --k 1,10
  python -m clients evaluate --data DIR --samples mine.jsonl --score-only --json
  python -m clients evaluate --compare old.results.jsonl new.results.jsonl
"""


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add = parser.add_argument
    add(
        "--suite",
        metavar="NAME|FILE",
        default="humaneval",
        help="humaneval (default), mbpp, humaneval-infilling, or a file with the same fields",
    )
    add("--data", type=Path, metavar="DIR", help="folder that holds the suites' published files")
    add(
        "--samples",
        type=Path,
        default=Path("samples.jsonl"),
        metavar="FILE",
        help="answers, kept and continued (default: %(default)s)",
    )
    add("--score-only", action="store_true", help="ask no server, score what --samples holds")
    add("--reference", action="store_true", help="score the published solutions instead")
    add("--compare", nargs=2, type=Path, metavar="RESULTS", help="two results.jsonl: the gain")
    add("--limit", type=int, metavar="N", help="only the first N problems")
    add("--n", type=int, default=1, metavar="N", help="samples a problem (default: 1)")
    add("--k", type=_numbers, default=(1, 10, 100), metavar="K,K", help="default: 1,10,100")
    add("--mode", choices=("chat", "completion", "fim"), help="default: by the suite's kind")
    add("--max-tokens", type=int, default=512, metavar="N", help="default: %(default)s")
    add("--temperature", type=float, default=0.0, metavar="T", help="default: 0, greedy")
    add("--seed", type=int, default=0, metavar="N")
    add("--concurrency", type=int, default=4, metavar="N", help="requests at once (default: 4)")
    add("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="programs at once")
    add("--sandbox", choices=("namespaces", "rlimits"), default="namespaces")
    add("--json", action="store_true", help="write the score as JSON")
    add_server_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Generate what is missing, score everything, write the score."""
    if args.compare:
        return _compare(*args.compare)
    _check(args)
    from clients.evaluate import problems

    chosen = problems.load(args.suite, args.data)[: args.limit]
    sandbox = _sandbox(args.sandbox)  # before the long part, which would be in vain without it
    pairs = list(_programs(args, chosen))
    results = _score(pairs, sandbox, args.workers)
    if not args.reference:
        _keep(results, args.samples.with_suffix(".results.jsonl"))
    from clients.evaluate.scoring import score

    _show(score(args.suite, results, args.k), as_json=args.json)
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("n", "limit", "concurrency", "workers", "max_tokens"):
        value = getattr(args, name)
        if value is not None and value < 1:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is {value}; it must be 1 or more")


def _numbers(text: str) -> tuple[int, ...]:
    """Read K,K. A ValueError is argparse's to report."""
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise ValueError(text)
    return numbers


def _sandbox(mechanism: str) -> Sandbox:
    from clients.evaluate import sandbox

    limits = sandbox.Limits()
    chosen = sandbox.strongest(limits) if mechanism == "namespaces" else sandbox.weaker(limits)
    note(f"sandbox: {chosen.mechanism}")
    return chosen


def _programs(args: argparse.Namespace, chosen: Sequence[Problem]) -> Iterator[tuple[Sample, str]]:
    """Yield what is to be run, generating it first where that is asked for."""
    from clients.evaluate import samples, scoring, solutions

    if args.reference:
        for problem in chosen:
            sample = samples.Sample(task_id=problem.task_id, completion=problem.solution)
            yield sample, solutions.reference(problem)
        return
    if not args.score_only:
        _generate(args, chosen)
    found = samples.read(args.samples, samples.Sample)
    wanted = {problem.task_id for problem in chosen}
    if args.limit is not None:
        found = [item for item in found if item.task_id in wanted]
    if not found:
        raise UsageError(f"{args.samples} holds no sample")
    yield from scoring.programs_of(chosen, found)


def _generate(args: argparse.Namespace, chosen: Sequence[Problem]) -> None:
    from clients.evaluate.generate import Plan

    plan = Plan(
        num_samples=args.n,
        mode=args.mode,
        max_tokens=args.max_tokens,
        temperature=args.temperature,
        seed=args.seed,
        concurrency=args.concurrency,
    )
    if args.n > 1 and args.temperature == 0:
        raise UsageError(f"--n {args.n} with --temperature 0 gives equal samples; raise it")
    with connected(args) as client:
        model = client.model
    with progress("generating") as on_progress:
        try:
            asyncio.run(_generate_with(args, model, chosen, plan, on_progress))
        except* ClientError as failures:
            raise failures.exceptions[0] from None


async def _generate_with(
    args: argparse.Namespace,
    model: str | None,
    chosen: Sequence[Problem],
    plan: Plan,
    on_progress: Callable[[int, int], None],
) -> None:
    from clients.evaluate.generate import generate

    async with async_client(args, model) as client:
        await generate(client, chosen, plan, args.samples, on_progress=on_progress)


def _score(pairs: Sequence[tuple[Sample, str]], sandbox: Sandbox, num_workers: int) -> list[Result]:
    from clients.evaluate.scoring import run_programs

    with progress("running") as on_progress:
        return run_programs(pairs, sandbox, num_workers=num_workers, on_progress=on_progress)


def _keep(results: Sequence[Result], file: Path) -> None:
    from clients.evaluate import samples

    file.unlink(missing_ok=True)
    for result in results:
        samples.append(file, result)
    note(f"verdicts: {file}")


def _compare(first: Path, second: Path) -> int:
    from clients.evaluate import estimators, samples, scoring

    results = [scoring.passes(samples.read(file, samples.Result)) for file in (first, second)]
    try:
        write_json(estimators.paired_bootstrap(*results))
    except ValueError as error:
        raise UsageError(f"{first} and {second}: {error}") from None
    return 0


def _show(result: Score, *, as_json: bool) -> None:
    if as_json:
        write_json(result)
        return
    for k, value in result.pass_at_k.items():
        sys.stdout.write(f"pass@{k}: {value:.1%}\n")
    counts = ", ".join(f"{number} {name}" for name, number in sorted(result.outcomes.items()))
    sys.stdout.write(f"{result.num_problems} problems of {result.suite}: {counts}\n")
