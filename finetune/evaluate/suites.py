"""What a model is asked: published problems, a file with the same fields, or a run's held-out side.

Knows the files' fields. Knows neither models nor how a solution is run.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from finetune.data.files import read_rows
from finetune.errors import EvaluationError
from finetune.fingerprint import sha256_json

HELDOUT = "heldout"
SUITES = {
    "humaneval": ("HumanEval.jsonl.gz", "HumanEval.jsonl"),
    "mbpp": ("mbpp.jsonl", "sanitized-mbpp.json"),
    "humaneval-infilling": (
        "HumanEval-SingleLineInfilling.jsonl.gz",
        "HumanEval-SingleLineInfilling.jsonl",
    ),
}
MBPP_TEST_IDS = range(11, 511)  # the published split; the rest is for prompts and training


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One thing asked; `solution` is the published or held-out answer.

    function: `prompt` is code to continue. instruction: a sentence, with its `tests`. infilling:
    code before a gap, `suffix` after it. conversation: `messages` up to the answer.
    """

    task_id: str
    kind: Literal["function", "instruction", "infilling", "conversation"]
    solution: str
    prompt: str = ""
    suffix: str = ""
    tests: str = ""
    messages: tuple[dict[str, Any], ...] = ()


def load_suite(suite: str, data: Path | None, run: Path) -> list[Problem]:
    """Return the problems of a suite by name, of a file, or a run's held-out examples.

    Raises:
        EvaluationError: it is not there, or a row is no problem.
    """
    if suite == HELDOUT:
        problems = _heldout(run / "heldout.jsonl")
    else:
        file = suite_file(suite, data)
        problems = [_problem(row, where) for where, row in read_rows(file)]
        if file.name == SUITES["mbpp"][0]:
            problems = [item for item in problems if int(item.task_id) in MBPP_TEST_IDS]
    if not problems:
        raise EvaluationError(f"{suite} holds no problem")
    return problems


def drawn(problems: Sequence[Problem], number: int) -> list[Problem]:
    """Return some problems in their order, drawn by the digest of their ids; more hold fewer."""
    digests = {item.task_id: sha256_json(item.task_id) for item in problems}
    chosen = set(sorted(digests, key=digests.__getitem__)[:number])
    return [item for item in problems if item.task_id in chosen]


def suite_file(suite: str, data: Path | None) -> Path:
    """Return the file of a suite.

    Raises:
        EvaluationError: no such suite or file.
    """
    if suite not in SUITES:
        if not Path(suite).is_file():
            raise EvaluationError(f"no suite `{suite}`; known: {HELDOUT}, {', '.join(SUITES)}")
        return Path(suite)
    for name in SUITES[suite] if data else ():
        if data and (data / name).is_file():
            return data / name
    raise EvaluationError(
        f"{suite} needs its published file {SUITES[suite][0]}; name its folder with --data"
    )


def _heldout(file: Path) -> list[Problem]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    rows = [json.loads(line) for line in lines]
    found = [_heldout_problem(row) for row in rows]
    return [problem for problem in found if problem is not None]


def _heldout_problem(row: dict[str, Any]) -> Problem | None:
    """Return a conversation or a gap as a problem; a plain passage asks nothing."""
    if "middle" in row:
        return Problem(
            task_id=row["id"],
            kind="infilling",
            prompt=row["prefix"],
            suffix=row["suffix"],
            solution=row["middle"],
        )
    if "messages" not in row:
        return None
    *asked, answer = row["messages"]
    return Problem(
        task_id=row["id"],
        kind="conversation",
        messages=tuple(asked),
        solution=answer["content"],
    )


def _problem(row: Any, where: str) -> Problem:
    try:
        return _mbpp(row) if "test_list" in row else _humaneval(row)
    except (KeyError, TypeError) as error:
        raise EvaluationError(
            f"{where}: no field {error}; expected task_id, prompt (HumanEval), the same with "
            "suffix (infilling), or task_id, test_list and text (MBPP)"
        ) from None


def _humaneval(row: dict[str, Any]) -> Problem:
    return Problem(
        task_id=row["task_id"],
        kind="infilling" if "suffix" in row else "function",
        prompt=row["prompt"],
        suffix=row.get("suffix", ""),
        solution=row.get("canonical_solution", ""),
    )


def _mbpp(row: dict[str, Any]) -> Problem:
    setup = [row["test_setup_code"]] if row.get("test_setup_code") else row.get("test_imports", [])
    return Problem(
        task_id=str(row["task_id"]),
        kind="instruction",
        prompt=row["text"] if "text" in row else row["prompt"],
        tests="\n".join([*setup, *row["test_list"]]).replace("\r\n", "\n"),
        solution=row.get("code", ""),
    )
