"""The outcome of an evaluation: one file and one table, beside the run it is about.

    runs/evaluations/<run_id>/<suite>/
      base.jsonl  tuned.jsonl     answers, in the evaluator's format
      evaluation.json  .md        figures before and after

Nobody writes into a finished run, so this lies next to `runs/finetune`. Knows no model.
"""

from pathlib import Path

import msgspec

from finetune.evaluate.figures import Figures
from finetune.evaluate.scoring import PassRates

FOLDER = "evaluations"
NAME = "evaluation.json"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One question with its answers, for people to read."""

    question: str
    reference: str
    base: str
    tuned: str


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured on one suite; `pass_at_1` is None where nothing was scored."""

    schema_version: int = 1
    run_id: str
    suite: str
    created_at: str
    settings: str
    device: str
    base: Figures
    tuned: Figures
    reference_parse_rate: float
    pass_at_1: PassRates | None
    shown: tuple[Shown, ...] = ()


def folder_of(run: Path, suite: str) -> Path:
    """Return where a run's evaluation on a suite lies."""
    return run.parent.parent / FOLDER / run.name / Path(suite).stem


def evaluations_of(run: Path) -> list[Evaluation]:
    """Return all evaluations of a run, by suite."""
    files = sorted((run.parent.parent / FOLDER / run.name).glob(f"*/{NAME}"))
    return [msgspec.json.decode(file.read_bytes(), type=Evaluation) for file in files]


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write evaluation.json and evaluation.md; each appears whole."""
    encoded = msgspec.json.format(msgspec.json.encode(evaluation), indent=2)
    for name, content in ((NAME, encoded), ("evaluation.md", page(evaluation).encode())):
        partial = folder / f"{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)
    return folder / NAME


def page(evaluation: Evaluation) -> str:
    """Return the evaluation as Markdown."""
    lines = [
        f"# {evaluation.run_id} on {evaluation.suite}\n",
        "| figure | before | after |\n|---|---:|---:|",
        *(f"| {name} | {before} | {after} |" for name, before, after in table(evaluation)),
        f"\n{evaluation.settings}; {evaluation.device}; {evaluation.created_at}.",
    ]
    return "\n".join(lines) + "\n"


def table(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return rows of (figure, before, after)."""
    base, tuned, rates = evaluation.base, evaluation.tuned, evaluation.pass_at_1
    rows = [("answers", f"{base.num_answers:,}", f"{tuned.num_answers:,}")]
    if rates:
        name = f"pass@1 on {rates.num_problems} problems"
        rows.append((name, f"{rates.first:.1%}", f"{rates.second:.1%}"))
        gain = f"{rates.difference:+.1%} ({rates.low:+.1%} to {rates.high:+.1%})"
        rows.append(("gain in pass@1, with its 95% paired bootstrap interval", "", gain))
    if base.exact_match_rate is not None and tuned.exact_match_rate is not None:
        rows.append(
            ("exact match", f"{base.exact_match_rate:.1%}", f"{tuned.exact_match_rate:.1%}")
        )
    ceiling = f"parses as Python (of the right answers: {evaluation.reference_parse_rate:.1%})"
    rows.append((ceiling, f"{base.parse_rate:.1%}", f"{tuned.parse_rate:.1%}"))
    rows.append(("stops by itself", f"{base.stop_rate:.1%}", f"{tuned.stop_rate:.1%}"))
    return rows
