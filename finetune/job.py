"""One fine-tune from configuration to manifest.

    identify inputs -> hash -> reuse? -> prepare data -> train -> write artifacts -> manifest

Knows the order of the stage's parts and none of their insides.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from finetune import base_model, checkpoints, libraries, processes, provenance, trainer
from finetune.artifacts import (
    ROLES,
    describe_run,
    tidy_adapter,
    write_data_report,
    write_inputs,
)
from finetune.base_model import BaseModel, BaseSource
from finetune.config import Config, load_config, to_plain, to_toml
from finetune.data.examples import Dataset
from finetune.data.gate import GateReport, describe, pass_gate
from finetune.data.preferences import Preferences, prepare_pairs
from finetune.data.prepare import Prepared, prepare
from finetune.data.sources import load_dataset
from finetune.errors import RunError
from finetune.fingerprint import sha256_json
from finetune.grown_base import grow
from finetune.home import runs_root
from finetune.loggers import check_loggers
from finetune.model import load_model
from finetune.model_card import model_card
from finetune.parent import Parent, adopted, check_base, read_parent
from finetune.plan import describe_plan, log_estimate
from finetune.report import write_report
from finetune.run import Run, create_run, same_runs
from finetune.task import Outcome, Task
from finetune.template import choose_template, template_sha256


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration with its inputs identified; `identity` is what the hash covers.

    `parent` is the run whose adapter is trained further.
    """

    config: Config
    source: BaseSource
    parent: Parent | None
    dataset: Dataset
    gate: GateReport
    identity: dict[str, Any]

    @property
    def config_hash(self) -> str:
        """The SHA-256 that two equal fine-tunes share."""
        return sha256_json(self.identity)


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What training starts from, loaded and checked."""

    fast_model: Any
    base: BaseModel
    tokenizer: Any
    prepared: Prepared
    pairs: Preferences | None


def identify(config: Config) -> Job:
    """Locate base and data and compute the identity of the fine-tune."""
    source = base_model.identify(config.base_model.ref)
    parent = read_parent(config.base_model.adapter) if config.base_model.adapter else None
    if parent is not None:
        check_base(parent, source)
        config = adopted(config, parent)
    template = template_sha256(config.template)
    dataset, gate = pass_gate(load_dataset(config.data, seed=config.train.seed), config.data)
    inputs = {"base_model": source.sha256, "data": dataset.sha256, "template": template}
    if parent is not None:
        inputs["adapter"] = parent.sha256
    identity = {
        "config": to_plain(config),
        "inputs": inputs,
        "versions": provenance.versions(provenance.SHAPING_PACKAGES),
    }
    return Job(
        config=config,
        source=source,
        parent=parent,
        dataset=dataset,
        gate=gate,
        identity=identity,
    )


def dry_run(config: Config) -> None:
    """Resolve everything, print counts and an estimate, train nothing, write no run."""
    job = identify(config)
    libraries.import_transformers()
    material = _prepare(job)
    base, prepared = material.base, material.prepared
    num_parameters = base_model.count_parameters(base.weights)
    print(describe_plan(job.config, base, prepared, num_parameters), file=sys.stderr)


def fine_tune(config: Config, *, force: bool) -> Path:
    """Train a configuration, or return the complete run that already did."""
    root = _announced_root()
    job = identify(config)
    complete, unfinished = same_runs(root, job.config_hash)
    if complete is not None and not force:
        _say(f"the same inputs and configuration are trained already: {complete.path}")
        return complete.path
    for run in unfinished:
        _say(f"unfinished, not used: {run.path} (continue it with --resume {run.path})")
    material = _load(job)
    return _execute(job, _new_run(root, job), material)


def _new_run(root: Path, job: Job) -> Run:
    """Create the run in the main process; the others learn its path."""
    if not processes.is_main():
        return Run(processes.from_main(root))
    run = create_run(root, job.config_hash)
    (run.path / "config.toml").write_text(to_toml(job.config), encoding="utf-8")
    run.log("run_started", config_hash=job.config_hash, identity=job.identity)
    return Run(processes.from_main(run.path))


def resume(path: Path) -> Path:
    """Continue an unfinished run from its newest checkpoint; a complete one is only named.

    Raises:
        RunError: not a run, or its inputs or versions have changed.
    """
    _announced_root()
    run = Run(path.expanduser().resolve())
    if run.is_complete:
        _say(f"{run.path} is complete; nothing to resume")
        return run.path
    started = run.events("run_started")
    if not started:
        raise RunError(f"{run.path} is no unfinished fine-tune: its log.jsonl has no start")
    job = identify(load_config(run.path / "config.toml", []))
    _refuse_changes(run, started[0]["identity"], job.identity)
    material = _load(job)
    if processes.is_main():
        run.log("run_resumed", num_processes=processes.num_processes())
    return _execute(job, run, material)


def _refuse_changes(run: Run, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [
        f"{group}.{name} was {before[group].get(name)}, is {value}"
        for group in ("inputs", "versions", "config")
        for name, value in now[group].items()
        if before[group].get(name) != value
    ]
    if changed:
        raise RunError(
            f"{run.path} cannot be resumed, its inputs changed: {'; '.join(changed)}; "
            "start a new run"
        )


def _load(job: Job) -> Material:
    """Load all that can be refused before a run directory is worth creating."""
    check_loggers(job.config.train.loggers)
    fast_model = libraries.import_unsloth(base_model.architecture(job.source))
    processes.join_group()
    return _prepare(job, fast_model)


def _prepare(job: Job, fast_model: Any = None) -> Material:
    base = base_model.make_loadable(job.source, job.config.base_model)
    tokenizer = libraries.load_tokenizer(str(base.weights))
    choose_template(tokenizer, job.config.template)
    prepared, pairs = prepare(job.dataset, tokenizer, job.config), None
    if job.config.train.method == "dpo":
        prepared, pairs = prepare_pairs(prepared, tokenizer, job.config.train.max_seq_length)
    if prepared.new_token_ids:
        base = grow(base, tokenizer, prepared.new_token_ids)
    return Material(
        fast_model=fast_model, base=base, tokenizer=tokenizer, prepared=prepared, pairs=pairs
    )


def _execute(job: Job, run: Run, material: Material) -> Path:
    _say(f"run: {run.path}")
    base, tokenizer, prepared = material.base, material.tokenizer, material.prepared
    num_parameters = base_model.count_parameters(base.weights)
    _say(describe_plan(job.config, base, prepared, num_parameters))
    _say(f"{'gate:':<10}{describe(job.gate)}")
    if processes.is_main():
        log_estimate(run, job.config, prepared, num_parameters)
        run.log(
            "data_prepared", **prepared.figures(), train_tokens_per_epoch=prepared.train.num_tokens
        )
        write_inputs(run, base, tokenizer, prepared)
        write_data_report(job, run, prepared)
    task = Task(
        fast_model=material.fast_model,
        model=_load_model(job, material),
        tokenizer=tokenizer,
        prepared=prepared,
        settings=job.config.train,
        run=run,
        pairs=material.pairs,
    )
    outcome = trainer.train(task)
    if processes.is_main():
        _finish(job, run, base, prepared, outcome)
    processes.wait_for_all()
    return run.path


def _load_model(job: Job, material: Material) -> Any:
    """Load the base with fresh LoRA layers, or with those of the run that is gone on with."""
    model = load_model(
        material.fast_model,
        material.base.weights,
        job.config,
        new_token_ids=material.prepared.new_token_ids,
    )
    if job.parent is not None:
        checkpoints.load_adapter(model, job.parent.adapter)
    return model


def _finish(job: Job, run: Run, base: BaseModel, prepared: Prepared, outcome: Outcome) -> None:
    """Write what describes the run; the manifest, last, makes it complete."""
    tidy_adapter(run.path / trainer.ADAPTER, base)
    manifest = describe_run(job, run, base, prepared, outcome)
    write_report(run, manifest)
    (run.path / "MODEL_CARD.md").write_text(model_card(manifest), encoding="utf-8")
    manifest["outputs"] = run.outputs(ROLES)
    run.log("run_completed")
    run.complete(manifest)
    checkpoints.remove_checkpoints(run.path)
    _summarise(manifest)


def _announced_root() -> Path:
    root, why = runs_root()
    _say(f"runs: {root} ({why})")
    return root


def _summarise(manifest: dict[str, Any]) -> None:
    metrics = manifest["metrics"]
    _say(
        f"held-out loss {metrics['heldout_response_loss_before_nats']:.4f} -> "
        f"{metrics['heldout_response_loss_after_nats']:.4f} nats per answer token; "
        f"{metrics['train_tokens']:,} tokens in {metrics['train_seconds']:.0f} s "
        f"({metrics['train_tokens_per_second']:.0f} tokens/s)"
    )
    expected = metrics.get("expected_peak_gpu_memory_bytes")
    if expected:
        _say(
            f"peak GPU memory {metrics['peak_gpu_memory_bytes'] / 2**30:.1f} GiB, "
            f"{expected / 2**30:.1f} expected"
        )


def _say(text: str) -> None:
    if processes.is_main():
        print(text, file=sys.stderr)
