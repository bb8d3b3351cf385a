"""`python -m finetune report RUN`: one HTML file that opens anywhere, offline.

Lies beside the run, in `runs/reports/`, since nobody writes into a finished one. Knows the page's
template and which facts go where.
"""

import argparse
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from finetune.evaluate.outcome import Evaluation, evaluations_of, table
from finetune.html_report.curves import charts_of
from finetune.html_report.facts import data_of, estimates_of, metrics_of, origin_of, tiles_of
from finetune.run import Run, read_manifest

FOLDER = "reports"


def build_parser() -> argparse.ArgumentParser:
    """Describe `python -m finetune report`."""
    parser = argparse.ArgumentParser(
        prog="python -m finetune report",
        description="Write the report of a finished fine-tune as one HTML file and print its path: "
        "curves, answers before and after, data, figures, how to reproduce it.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished fine-tune")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.html", help="default: runs/reports/RUN.html"
    )
    return parser


def write_html(arguments: Sequence[str]) -> Path:
    """Write the page and return where it is.

    Raises:
        RunError: the run is not finished.
    """
    options = build_parser().parse_args(arguments)
    run = Run(options.run.expanduser().resolve())
    text = page(run)
    path: Path = options.output or run.path.parent.parent / FOLDER / f"{run.path.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def page(run: Run) -> str:
    """Return the report of a run as HTML."""
    import jinja2

    manifest = read_manifest(run.path)
    metrics = manifest["metrics"]
    source = (resources.files("finetune") / "html_report" / "page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    gate, lengths = data_of(run)
    return environment.from_string(source).render(
        run_id=manifest["run_id"],
        created_at=manifest["created_at"],
        base=manifest["base_model"]["ref"],
        data=[entry["ref"] for entry in manifest["inputs"] if entry["role"] == "data"],
        tiles=tiles_of(metrics),
        charts=charts_of(run, metrics),
        estimates=estimates_of(run, metrics),
        evaluations=[(found, table(found)) for found in _evaluations(run)],
        gate=gate,
        lengths=lengths,
        metrics=metrics_of(metrics),
        origin=origin_of(manifest),
        config=(run.path / "config.toml").read_text(encoding="utf-8"),
    )


def _evaluations(run: Run) -> list[Evaluation]:
    """Return the evaluations made so far, the one on held-out examples last."""
    return sorted(evaluations_of(run.path), key=lambda found: found.suite == "heldout")
