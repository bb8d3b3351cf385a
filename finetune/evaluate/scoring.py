"""pass@1 before and after, by the evaluator of another stage, called as a command.

Programs that a model wrote are run there, in its sandbox, never here. Where the evaluator is not
installed, the commands that score the same files elsewhere are named.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from finetune.errors import EvaluationError

_ROOT = Path(__file__).resolve().parents[2]


class PassRates(msgspec.Struct, frozen=True, kw_only=True):
    """pass@1 of base (`first`) and tuned model (`second`) on the problems both answered.

    `low` and `high` bound 95% of the paired bootstrap's differences.
    """

    num_problems: int
    first: float
    second: float
    difference: float
    low: float
    high: float


def evaluator_is_installed() -> bool:
    """Tell whether `python -m clients` is there."""
    return importlib.util.find_spec("clients") is not None


def commands(suite: str, data: Path | None, before: Path, after: Path) -> list[list[str]]:
    """Return the evaluator's commands: score each file, then compare."""
    where = ["--data", str(data)] if data else []
    score = ["evaluate", "--suite", suite, *where, "--score-only", "--json", "--samples"]
    results = [str(file.with_suffix(".results.jsonl")) for file in (before, after)]
    return [[*score, str(before)], [*score, str(after)], ["evaluate", "--compare", *results]]


def score(suite: str, data: Path | None, before: Path, after: Path) -> PassRates:
    """Run all answers in the evaluator's sandbox and compare.

    Raises:
        EvaluationError: the evaluator refused or failed; its own words stand above.
    """
    printed = b""
    for arguments in commands(suite, data, before, after):
        printed = _run(arguments)
    return _read(printed, "the evaluator's answer")


def read_scores(file: Path) -> PassRates:
    """Read what `python -m clients evaluate --compare` printed on another machine.

    Raises:
        EvaluationError: no such file, or something else.
    """
    try:
        return _read(file.read_bytes(), str(file))
    except OSError as error:
        raise EvaluationError(f"--scores {file} cannot be read: {error.strerror}") from error


def _run(arguments: Sequence[str]) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "clients", *arguments],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise EvaluationError(
            f"`python -m clients {' '.join(arguments)}` ended with status {done.returncode}"
        )
    return done.stdout


def _read(text: bytes, what: str) -> PassRates:
    try:
        return msgspec.json.decode(text, type=PassRates)
    except msgspec.DecodeError as error:
        raise EvaluationError(f"{what} is no comparison of two results: {error}") from error
