"""Run samples in the sandbox, several at a time, and add up."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from clients.errors import UsageError
from clients.evaluate.estimators import mean_pass_at_k
from clients.evaluate.samples import Result, Sample
from clients.evaluate.solutions import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from clients.evaluate.problems import Problem
    from clients.evaluate.sandbox import Sandbox


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """A suite's result. `pass_at_k` has k as text; `outcomes` counts samples."""

    suite: str
    sandbox: str
    num_problems: int
    num_samples: int
    pass_at_k: dict[str, float]
    outcomes: dict[str, int]


def run_programs(
    programs: Sequence[tuple[Sample, str]],
    sandbox: Sandbox,
    *,
    num_workers: int,
    on_progress: Callable[[int, int], None],
) -> list[Result]:
    """Run each sample's program; results come in the samples' order."""

    def one(item: tuple[Sample, str]) -> Result:
        sample, text = item
        verdict = sandbox.run(text)
        return Result(
            task_id=sample.task_id,
            sample=sample.sample,
            outcome=verdict.outcome,
            detail=verdict.detail,
            seconds=round(verdict.seconds, 3),
            sandbox=sandbox.mechanism,
        )

    results = []
    with ThreadPoolExecutor(num_workers) as pool:
        for result in pool.map(one, programs):
            results.append(result)
            on_progress(len(results), len(programs))
    return results


def programs_of(problems: Iterable[Problem], found: Iterable[Sample]) -> list[tuple[Sample, str]]:
    """Pair samples with what decides about them.

    Raises:
        UsageError: a sample answers no problem of the suite.
    """
    by_id = {problem.task_id: problem for problem in problems}
    pairs = []
    for sample in found:
        if sample.task_id not in by_id:
            raise UsageError(f"a sample answers {sample.task_id!r}, which the suite does not have")
        pairs.append((sample, program(by_id[sample.task_id], sample.completion, sample.mode)))
    return pairs


def passes(results: Iterable[Result]) -> dict[str, list[bool]]:
    """Group by problem: which samples passed."""
    grouped: dict[str, list[bool]] = {}
    for result in results:
        grouped.setdefault(result.task_id, []).append(result.outcome == "passed")
    return grouped


def score(suite: str, results: Sequence[Result], ks: Sequence[int]) -> Score:
    """Add up; a k beyond the samples of some problem is left out."""
    grouped = passes(results)
    fewest = min(len(made) for made in grouped.values())
    return Score(
        suite=suite,
        sandbox=", ".join(sorted({result.sandbox for result in results})),
        num_problems=len(grouped),
        num_samples=len(results),
        pass_at_k={str(k): mean_pass_at_k(grouped, k) for k in ks if k <= fewest},
        outcomes=dict(Counter(result.outcome for result in results)),
    )
