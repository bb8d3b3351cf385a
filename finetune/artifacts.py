"""What a run leaves in its directory beside weights: inputs, data report, manifest.

Knows how each is written, not when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from finetune import base_model, libraries, processes, provenance
from finetune.config import to_plain
from finetune.data.show import report_json, report_page
from finetune.run import SCHEMA_VERSION, STAGE, utc_now

if TYPE_CHECKING:
    from pathlib import Path

    from finetune.base_model import BaseModel
    from finetune.data.prepare import Prepared
    from finetune.identity import Job
    from finetune.run import Run
    from finetune.task import Outcome

ROLES = {
    "adapter": "adapter",
    "tokenizer": "tokenizer",
    "chat_template.jinja": "chat_template",
    "base_model": "base_model",
    "train.jsonl": "train_examples",
    "heldout.jsonl": "heldout_examples",
    "data_report": "data_report",
    "report": "report",
    "MODEL_CARD.md": "model_card",
}


def write_inputs(run: Run, base: BaseModel, tokenizer: Any, prepared: Prepared) -> None:
    """Write what is known before training: base copy, tokenizer, template, examples."""
    base_model.materialise(base, run.path)
    tokenizer.save_pretrained(run.path / "tokenizer")
    if tokenizer.chat_template:
        (run.path / "chat_template.jinja").write_text(tokenizer.chat_template, encoding="utf-8")
    for name, side in (("train", prepared.train), ("heldout", prepared.heldout)):
        with (run.path / f"{name}.jsonl").open("wb") as stream:
            for example in side.examples:
                stream.write(msgspec.json.encode(example) + b"\n")


def write_data_report(job: Job, run: Run, prepared: Prepared) -> None:
    """Write what the gate and the packing found, for people and for programs."""
    folder = run.path / "data_report"
    folder.mkdir(exist_ok=True)
    page = report_page(job.dataset, job.gate, prepared)
    (folder / "report.md").write_text(page, encoding="utf-8")
    figures = msgspec.json.encode(report_json(job.dataset, job.gate, prepared))
    (folder / "report.json").write_bytes(msgspec.json.format(figures, indent=2))


def tidy_adapter(folder: Path, base: BaseModel) -> None:
    """Name the base by its reference instead of a folder of this machine; drop PEFT's own card."""
    path = folder / "adapter_config.json"
    facts = msgspec.json.decode(path.read_bytes())
    facts["base_model_name_or_path"] = base.source.ref
    path.write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=2))
    (folder / "README.md").unlink(missing_ok=True)


def describe_run(
    job: Job, run: Run, base: BaseModel, prepared: Prepared, outcome: Outcome
) -> dict[str, Any]:
    """Return the manifest but for its outputs."""
    figures = msgspec.to_builtins(outcome)
    preference_figures = figures.pop("preference_figures")
    metrics = {
        **{name: value for name, value in figures.items() if value is not None},
        **preference_figures,
        "train_tokens_per_second": outcome.train_tokens_per_second,
        **prepared.figures(),
        "num_processes": processes.num_processes(),
        "peak_memory_bytes": provenance.peak_memory_bytes(),
        **libraries.gpu_figures(),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "stage": STAGE,
        "run_id": run.path.name,
        "created_at": utc_now(),
        "config_hash": job.config_hash,
        "git": provenance.git_state(),
        "config": to_plain(job.config),
        "seed": job.config.train.seed,
        "inputs": [
            base.input_entry(),
            *job.dataset.input_entries(),
            *(job.parent.input_entries() if job.parent else ()),
        ],
        "outputs": [],
        "base_model": base.manifest_entry(),
        "versions": job.identity["versions"],
        "hardware": provenance.hardware(libraries.gpu_name()),
        "metrics": metrics,
    }
