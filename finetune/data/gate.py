"""What is let through to training, and what was kept out and why.

    examples -> exact repeats -> near duplicates -> benchmark problems -> secrets -> kept

Every example is looked at in the order of its digest, so neither the order of a file nor its other
rows decide which of two copies stays. Knows no tokenizer.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from finetune.data.examples import Dataset, Document, Example
from finetune.data.files import read_rows
from finetune.data.overlap import Contamination, Problem, contaminated, near_duplicates
from finetune.data.settings import DataConfig
from finetune.data.suspects import licences_in, secrets_in
from finetune.errors import DataError

PROBLEM_TEXTS = ("prompt", "text", "question", "canonical_solution", "code", "solution")
PROBLEM_NAMES = ("task_id", "id", "name")
SHOWN = 20
NUM_BEGIN = 60


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """Counts by reason, and the first few of each kind by digest."""

    num_found: int
    formats: dict[str, int]
    num_exact_duplicates: int
    num_near_duplicates: int
    near_duplicates: list[dict[str, str]]
    num_problems: int
    num_contaminated: int
    contaminated: list[dict[str, Any]]
    num_with_secrets: int
    secrets: dict[str, int]
    with_secrets: list[dict[str, Any]]
    secrets_dropped: bool
    licence_notices: dict[str, int]
    num_kept: int


def pass_gate(dataset: Dataset, config: DataConfig) -> tuple[Dataset, GateReport]:
    """Return the data set with what may be trained on, and the report.

    Raises:
        DataError: nothing is left, or a file to decontaminate against cannot be used.
    """
    found: list[Example | Document] = [*dataset.examples, *dataset.documents]
    distinct = {item.id: item for item in found}
    examples = [distinct[digest] for digest in sorted(distinct)]
    texts = [text_of(example) for example in examples]
    repeats = near_duplicates(texts, config.near_duplicates) if config.near_duplicates else {}
    problems = [problem for path in config.decontaminate for problem in read_problems(Path(path))]
    tainted = contaminated(texts, problems, config.contamination)
    secret = {place: kinds for place, text in enumerate(texts) if (kinds := secrets_in(text))}
    dropped = {*repeats, *(each.example for each in tainted)}
    if config.secrets == "drop":
        dropped |= secret.keys()
    kept = {example.id for place, example in enumerate(examples) if place not in dropped}
    report = GateReport(
        num_found=len(found),
        formats=dataset.formats,
        num_exact_duplicates=len(found) - len(examples),
        num_near_duplicates=len(repeats),
        near_duplicates=[
            {**_named(examples[copy]), "kept": examples[original].id[:12]}
            for copy, original in list(repeats.items())[:SHOWN]
        ],
        num_problems=len(problems),
        num_contaminated=len(tainted),
        contaminated=[_plain(each, examples) for each in tainted[:SHOWN]],
        num_with_secrets=len(secret),
        secrets=dict(Counter(kind for kinds in secret.values() for kind in kinds)),
        with_secrets=[
            {"example": examples[place].id[:12], "kinds": sorted(kinds)}
            for place, kinds in list(secret.items())[:SHOWN]
        ],
        secrets_dropped=config.secrets == "drop",
        licence_notices=dict(Counter(name for text in texts for name in licences_in(text))),
        num_kept=len(kept),
    )
    if not kept:
        raise DataError(
            f"none of the {len(found)} examples of {dataset.ref} is left: {describe(report)}"
        )
    examples_left = {item.id: item for item in dataset.examples if item.id in kept}
    documents_left = {item.id: item for item in dataset.documents if item.id in kept}
    remaining = msgspec.structs.replace(
        dataset,
        examples=tuple(examples_left.values()),
        documents=tuple(documents_left.values()),
    )
    return remaining, report


def text_of(example: Example | Document) -> str:
    """Return all that the example says, without roles; system prompts repeat and are left out."""
    if isinstance(example, Document):
        return example.text
    texts = [turn.content for turn in example.messages if turn.role != "system"]
    return "\n".join([*texts, example.rejected or ""]).rstrip("\n")


def _named(example: Example | Document) -> dict[str, str]:
    """Return what an example is found again by: its digest and how it begins."""
    return {"example": example.id[:12], "begins": " ".join(text_of(example).split())[:NUM_BEGIN]}


def _plain(found: Contamination, examples: list[Example | Document]) -> dict[str, Any]:
    return {
        **_named(examples[found.example]),
        "benchmark": found.source,
        "problem": found.identifier,
        "share": round(found.share, 3),
    }


def read_problems(path: Path) -> list[Problem]:
    """Read the problems of a benchmark file; each row is one, its known text fields together.

    Raises:
        DataError: unreadable, or rows without any known text.
    """
    problems = []
    for number, (where, row) in enumerate(read_rows(path.expanduser())):
        texts = [row[key] for key in PROBLEM_TEXTS if isinstance(row, dict) and row.get(key)]
        if not texts:
            raise DataError(
                f"{where}: a benchmark problem needs one of {', '.join(PROBLEM_TEXTS)} "
                "(data.decontaminate)"
            )
        name = next((row[key] for key in PROBLEM_NAMES if key in row), number)
        text = "\n".join(str(part) for part in texts)
        problems.append(Problem(source=path.name, identifier=str(name), text=text))
    return problems


def describe(report: GateReport) -> str:
    """Say in one line what was dropped."""
    secrets = "dropped" if report.secrets_dropped else "flagged, kept"
    return (
        f"{report.num_exact_duplicates} exact and {report.num_near_duplicates} near repeats, "
        f"{report.num_contaminated} close to one of {report.num_problems} benchmark problems, "
        f"{report.num_with_secrets} with what looks like a secret ({secrets})"
    )
