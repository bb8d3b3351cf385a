"""Programming problems that each file solves: the server and the evaluator, both run as commands.

Knows neither problems nor prompts nor how a solution is run; only what the evaluator says of them.
Answers and verdicts stay beside the run, so that an interrupted evaluation goes on where it was.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec

from quantize.config import PassAt1Config, to_dict
from quantize.digest import sha256_file, sha256_json
from quantize.errors import EvaluatorError
from quantize.measure.measurements import Book, Measurement, Subject
from quantize.progress import Steps
from quantize.serve_process import ServerProcess

FOLDER, KEY = "pass_at_1", "pass_at_1"
_ROOT = Path(__file__).resolve().parents[2]
_SERVER_FLAGS = ("--no-tune", "--no-disk-cache")
_KEY_VARIABLE = "EDGESMITH_API_KEY"
"""The servers here ask for no key."""
_QUOTED_CHARS = 300


class Served(Protocol):
    """Say where a served file answers; a server process does, and so can a test."""

    @property
    def base_url(self) -> str:
        """Return the address that OpenAI clients take."""


Serve = Callable[[Path], AbstractContextManager[Served]]


class Evaluator:
    """Ask `python -m clients evaluate` about one suite; keep its files in one folder."""

    def __init__(self, config: PassAt1Config, folder: Path) -> None:
        self.config = config
        self.folder = folder

    def require_usable(self) -> None:
        """Try the suite's own solution of one problem, before hours of answers are asked for.

        Raises:
            EvaluatorError: suite, sandbox or the clients' packages are not there.
        """
        self._run("--reference", "--limit", "1", *self._suite())

    def rate(self, base_url: str, stem: str) -> dict[str, Any]:
        """Have a server solve the problems; return pass@1 and how many problems there were."""
        self.folder.mkdir(parents=True, exist_ok=True)
        given = ["--samples", str(self._samples(stem)), "--base-url", base_url, *self._suite()]
        given += ["--max-tokens", str(self.config.max_tokens)]
        if self.config.num_problems:
            given += ["--limit", str(self.config.num_problems)]
        score = self._run(*given)
        return {"pass_at_1": score["pass_at_k"]["1"], "num_problems": score["num_problems"]}

    def has_verdicts(self, stem: str) -> bool:
        """Say whether a file's verdicts are still there."""
        return self._results(stem).is_file()

    def difference(self, first: str, second: str) -> dict[str, Any]:
        """Return the second file's gain over the first on the same problems, with its interval."""
        found = self._run("--compare", str(self._results(first)), str(self._results(second)))
        return {name: found[name] for name in ("difference", "low", "high")}

    def _suite(self) -> list[str]:
        flags = ["--suite", resolved(self.config.suite), "--sandbox", self.config.sandbox]
        flags += ["--k", "1", "--json"]
        return flags + (["--data", resolved(self.config.data)] if self.config.data else [])

    def _samples(self, stem: str) -> Path:
        return self.folder.resolve() / f"{stem}.jsonl"

    def _results(self, stem: str) -> Path:
        return self._samples(stem).with_suffix(".results.jsonl")

    @staticmethod
    def _run(*arguments: str) -> Any:
        environment = {key: value for key, value in os.environ.items() if key != _KEY_VARIABLE}
        done = subprocess.run(
            [sys.executable, "-m", "clients", "evaluate", *arguments],
            cwd=_ROOT,
            env=environment,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise EvaluatorError(f"`python -m clients evaluate`: {said[-1][-_QUOTED_CHARS:]}")
        return msgspec.json.decode(done.stdout)


def measure(
    book: Book,
    subjects: Sequence[Subject],
    config: PassAt1Config,
    steps: Steps,
    *,
    serve: Serve,
) -> None:
    """Have every file solve the suite's problems, and compare each with the first file."""
    asked = to_dict(config) | {"suite_sha256": _suite_sha256(config)}
    evaluator = Evaluator(config, book.run / FOLDER / _label(book, subjects[0], asked))
    first = subjects[0].path.stem
    for subject in subjects:
        known = book.entry(subject).figures.get(KEY, {})
        if known.get("asked") == asked and evaluator.has_verdicts(subject.path.stem):
            continue
        with steps.step(f"pass@1 of {subject.path.name} on {config.suite}"):
            with serve(subject.path) as server:
                figures = evaluator.rate(server.base_url, subject.path.stem)
            if subject != subjects[0]:
                figures |= evaluator.difference(first, subject.path.stem)
        book.add(subject, {KEY: {"asked": asked, **figures}})


def require_usable(config: PassAt1Config) -> None:
    """Refuse a suite that cannot be evaluated here, before anything is measured.

    Raises:
        EvaluatorError: with the evaluator's own words.
    """
    Evaluator(config, Path()).require_usable()


def served(context: int) -> Serve:
    """Return what starts the server on a file, leaving nothing behind in this user's folders."""
    return lambda path: ServerProcess(path, context=context, arguments=_SERVER_FLAGS)


def resolved(name: str) -> str:
    """Return a path that holds from any folder; the name of a suite stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name


def table(entries: Sequence[Measurement]) -> list[str]:
    """Return the Markdown table of the files that were evaluated; none where none was."""
    found = [(entry.file, entry.figures[KEY]) for entry in entries if KEY in entry.figures]
    if not found:
        return []
    suite = Path(found[0][1]["asked"]["suite"]).name
    note = (
        f"Problems of {suite} solved at the first attempt, greedily; the difference from the first "
        "file is paired by problem, between bounds of 95%:"
    )
    lines = [
        note,
        "",
        "| file | problems | pass@1 | difference |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {file} | {each['num_problems']} | {each['pass_at_1']:.1%} | {_difference(each)} |"
        for file, each in found
    ]


def _label(book: Book, reference: Subject, asked: dict[str, Any]) -> str:
    """Return a folder's name: answers are taken up again where all but their number is the same."""
    settings = {key: value for key, value in asked.items() if key != "num_problems"}
    return sha256_json([settings, book.machine["id"], reference.sha256])[:8]


def _suite_sha256(config: PassAt1Config) -> str | None:
    path = Path(config.suite).expanduser()
    return sha256_file(path) if path.is_file() else None


def _difference(figures: dict[str, Any]) -> str:
    if "difference" not in figures:
        return "reference"
    low, high = figures["low"], figures["high"]
    return f"{figures['difference']:+.1%} ({low:+.1%} to {high:+.1%})"
