"""One fine-tune from configuration to manifest.

    identify inputs -> hash -> reuse? -> prepare data -> train -> write artifacts -> manifest

Knows the order of the stage's parts and none of their insides.
"""

import sys
from pathlib import Path
from typing import Any

import msgspec

from finetune import base_model, checkpoints, libraries, processes, trainer
from finetune.artifacts import (
    ROLES,
    describe_run,
    tidy_adapter,
    write_data_report,
    write_inputs,
)
from finetune.base_model import BaseModel
from finetune.config import Config, load_config, to_toml
from finetune.data.gate import describe
from finetune.data.preferences import Preferences, prepare_pairs
from finetune.data.prepare import Prepared, prepare
from finetune.errors import RunError
from finetune.fingerprint import sha256_json
from finetune.grown_base import grow
from finetune.home import runs_root
from finetune.identity import Job, identify, refuse_changes
from finetune.loggers import check_loggers
from finetune.model import load_model
from finetune.model_card import model_card
from finetune.plan import describe_plan, log_estimate, planned_tokens
from finetune.processes import say
from finetune.report import write_report
from finetune.run import Run, create_run, same_runs
from finetune.task import Outcome, Task
from finetune.template import choose_template


class Material(msgspec.Struct, frozen=True, kw_only=True):
    """What training starts from, loaded and checked."""

    fast_model: Any
    base: BaseModel
    tokenizer: Any
    prepared: Prepared
    pairs: Preferences | None

    @property
    def num_tokens(self) -> int:
        """Tokens that an epoch reads: of pairs, those of both answers."""
        if self.pairs:
            return sum(pair.both.num_tokens for pair in self.pairs.train)
        return self.prepared.train.num_tokens

    @property
    def rows_sha256(self) -> str:
        """One digest over all token ids and what carries loss, of both sides, in order."""
        sides = (self.prepared.train, self.prepared.heldout)
        pairs = (*self.pairs.train, *self.pairs.heldout) if self.pairs else ()
        return sha256_json(
            [
                [[row.input_ids, row.labels] for side in sides for row in side.encoded],
                [pair.rejected_ids for pair in pairs],
            ]
        )


def dry_run(config: Config) -> None:
    """Resolve everything, print counts and an estimate, train nothing, write no run."""
    job = identify(config)
    libraries.import_transformers()
    material = _prepare(job)
    print(_plan(job, material), file=sys.stderr)


def _plan(job: Job, material: Material) -> str:
    return describe_plan(
        job.config,
        material.base,
        material.prepared,
        num_parameters=base_model.count_parameters(material.base.weights),
        per_epoch=material.num_tokens,
    )


def fine_tune(config: Config, *, force: bool) -> Path:
    """Train a configuration, or return the complete run that already did."""
    root = _announced_root()
    job = identify(config)
    complete, unfinished = same_runs(root, job.config_hash)
    if complete is not None and not force:
        say(f"the same inputs and configuration are trained already: {complete.path}")
        return complete.path
    for run in unfinished:
        say(f"unfinished, not used: {run.path} (continue it with --resume {run.path})")
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
        say(f"{run.path} is complete; nothing to resume")
        return run.path
    started = run.events("run_started")
    if not started:
        raise RunError(f"{run.path} is no unfinished fine-tune: its log.jsonl has no start")
    job = identify(load_config(run.path / "config.toml", []))
    refuse_changes(run.path, started[0]["identity"], job.identity)
    material = _load(job)
    _refuse_other_rows(run, material)
    if processes.is_main():
        run.log("run_resumed", num_processes=processes.num_processes())
    return _execute(job, run, material)


def _refuse_other_rows(run: Run, material: Material) -> None:
    """Refuse to go on with rows that are not those of the checkpoints, whatever made them so."""
    prepared = run.events("data_prepared")
    if prepared and prepared[0].get("rows_sha256") != material.rows_sha256:
        raise RunError(
            f"{run.path} cannot be resumed: the same data now give other token ids than the run "
            "was begun with; start a new run"
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
    say(f"run: {run.path}")
    base, tokenizer, prepared = material.base, material.tokenizer, material.prepared
    say(_plan(job, material))
    say(f"{'gate:':<10}{describe(job.gate)}")
    if processes.is_main():
        tokens = planned_tokens(job.config, material.num_tokens, len(prepared.train.encoded))
        log_estimate(run, tokens, base_model.count_parameters(base.weights))
        run.log(
            "data_prepared",
            **prepared.figures(),
            train_tokens_per_epoch=material.num_tokens,
            rows_sha256=material.rows_sha256,
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
    say(f"runs: {root} ({why})")
    return root


def _summarise(manifest: dict[str, Any]) -> None:
    metrics = manifest["metrics"]
    say(
        f"held-out loss {metrics['heldout_response_loss_before_nats']:.4f} -> "
        f"{metrics['heldout_response_loss_after_nats']:.4f} nats per answer token; "
        f"{metrics['train_tokens']:,} tokens in {metrics['train_seconds']:.0f} s "
        f"({metrics['train_tokens_per_second']:.0f} tokens/s)"
    )
    if "heldout_preference_gain_nats" in metrics:
        say(
            f"held-out preference loss {metrics['heldout_preference_loss_before_nats']:.4f} -> "
            f"{metrics['heldout_preference_loss_after_nats']:.4f}; the preferred answers gained "
            f"{metrics['heldout_preference_gain_nats']:.2f} nats on the rejected ones"
        )
    expected = metrics.get("expected_peak_gpu_memory_bytes")
    if expected:
        say(
            f"peak GPU memory {metrics['peak_gpu_memory_bytes'] / 2**30:.1f} GiB, "
            f"{expected / 2**30:.1f} expected"
        )
