"""What can be told of answers without running them: do they parse, stop, and match.

Knows Python's grammar. Runs nothing.
"""

import ast
import re
import warnings
from collections.abc import Sequence

import msgspec

from finetune.evaluate.prompts import Mode, mode_of
from finetune.evaluate.samples import Sample
from finetune.evaluate.suites import Problem

SINGLE_LINE = "SingleLineInfilling/"
_BLOCK = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of a model's answers; `exact_match_rate` where there is one right text."""

    num_answers: int
    parse_rate: float
    stop_rate: float
    exact_match_rate: float | None


def figures_of(problems: Sequence[Problem], samples: Sequence[Sample]) -> Figures:
    """Measure the answers to some problems."""
    by_id = {problem.task_id: problem for problem in problems}
    pairs = [(by_id[item.task_id], item) for item in samples if item.task_id in by_id]
    matched = [
        is_exact(problem, item.completion)
        for problem, item in pairs
        if problem.kind == "conversation" or item.mode == "fim"
    ]
    return Figures(
        num_answers=len(pairs),
        parse_rate=_mean([parses(problem, item.completion, item.mode) for problem, item in pairs]),
        stop_rate=_mean([item.finish_reason == "stop" for _, item in pairs]),
        exact_match_rate=_mean(matched) if matched else None,
    )


def reference_parse_rate(problems: Sequence[Problem]) -> float:
    """Return the share of right answers that parse: what a perfect model would reach."""
    modes: list[Mode] = [
        "completion" if problem.kind == "function" else mode_of(problem, None)
        for problem in problems
    ]
    return _mean(
        [parses(item, item.solution, mode) for item, mode in zip(problems, modes, strict=True)]
    )


def _mean(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def parses(problem: Problem, answer: str, mode: Mode) -> bool:
    """Tell whether an answer, in its place, is Python; a function's body alone counts as well."""
    if mode == "fim":
        return is_python(problem.prompt + filling(problem, answer) + problem.suffix)
    if mode == "completion":
        return is_python(problem.prompt * (problem.kind != "instruction") + answer)
    code = code_in(answer)
    return is_python(code) or (problem.kind == "function" and is_python(problem.prompt + code))


def is_python(text: str) -> bool:
    """Tell whether a text is a Python program of at least one statement."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in an answer are no concern of ours
            return bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def code_in(answer: str) -> str:
    """Return the first fenced block of an answer, or all of it."""
    block = _BLOCK.search(answer)
    return block[1] if block else answer


def filling(problem: Problem, answer: str) -> str:
    """Return what goes into a gap: of a single-line problem the answer's first line."""
    if not problem.task_id.startswith(SINGLE_LINE):
        return answer
    return answer.lstrip("\n").partition("\n")[0] + "\n"


def is_exact(problem: Problem, answer: str) -> bool:
    """Tell whether an answer is the right text, blanks around it aside."""
    return filling(problem, answer).strip() == problem.solution.strip()
