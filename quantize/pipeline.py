"""The whole stage: choose or make a run, verify it, complete it, measure it, recommend.

A run is completed (its manifest written) only after the parity gate passed, so a file that does
not behave like its model is never taken by the server. Measurements come after and stand beside.
"""

from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from quantize.assess import LOG, files, measure_run, recommend_run, require_stage
from quantize.build import Builder, Built
from quantize.config import QuantizeConfig, to_dict
from quantize.convert.adapter import read_adapter
from quantize.errors import RunError
from quantize.examples import read_examples
from quantize.machine import peak_bytes
from quantize.plan import STAGE, Plan, warnings
from quantize.progress import Steps
from quantize.record import manifest, provenance
from quantize.report.adapter_compare import FILE as COMPARISON
from quantize.report.adapter_compare import compare_adapter
from quantize.resume import Ledger, discard_partial, locked
from quantize.run import (
    MANIFEST,
    Manifest,
    create,
    read_manifest,
    say,
    write_atomically,
    write_json,
)
from quantize.source import Source
from quantize.source import resolve as resolve_source
from quantize.verify import gate
from quantize.verify.texts import Chain


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what the command line asks beyond the configuration."""

    measure: bool = True
    verify: bool = True


def execute(work: Plan, options: Options) -> Path:
    """Carry out a plan and return the complete run."""
    if work.existing is not None:
        say(f"already done: {work.existing} (the same source, configuration and tools; --force)")
        if options.verify and not gate.passed(work.existing):
            verify_run(work.existing, work.config).require()
        if options.measure:
            measure_run(work.existing, work.config)
        return work.existing
    for warning in warnings(work.source):
        say(f"warning: {warning}")
    if work.unfinished is not None:
        say(f"resuming {work.unfinished}")
    run = work.unfinished or create(STAGE, work.config_hash)
    steps = Steps(run / LOG)
    with locked(run):
        _complete(run, work, options, steps)
    if options.measure:
        measure_run(run, work.config, steps)
    else:
        recommend_run(run, work.config.recommend)
    return run


def adapter_run(run: Path) -> Path:
    """Compare an adapter beside the base with the merged files; keep figures and report."""
    written = read_manifest(run)
    ggufs = [path for path, _ in files(run, written)]
    source = next((record for record in written.inputs if record.role == "finetune_run"), None)
    if source is None or not Path(source.ref).is_dir():
        raise RunError(f"the finetune run of {run}, whose adapter is to be compared, is gone")
    base = resolve_source(source.ref)[0].weights
    discard_partial(run)
    compare_adapter(run, ggufs, Path(source.ref) / "adapter", base, Steps(run / LOG))
    return run / COMPARISON


def verify_run(run: Path, config: QuantizeConfig) -> gate.Verification:
    """Check a complete run again, with what of its inputs is still there."""
    written = read_manifest(run)
    require_stage(run, written)
    source = next((record for record in written.inputs if record.role == "finetune_run"), None)
    merged = run / "merged" if (run / "merged").is_dir() else _hf_input(written)
    ggufs = tuple(path for path, _ in files(run, written))
    built = Built(ggufs=ggufs, merged=merged, adapter=None)
    base, tuned = None, None
    if source is not None and Path(source.ref).is_dir():
        tuned = Path(source.ref)
        base = resolve_source(source.ref)[0].weights
        adapter = read_adapter(tuned / "adapter")
        built = msgspec.structs.replace(built, adapter=adapter)
    elif source is not None:
        say(f"the finetune run {source.ref} is gone: the merge itself is not checked")
    steps = Steps(run / LOG)
    with steps.step("verify that the files are those of the manifest"):
        unchanged = gate.compare_files(run, written.outputs)
    checked = gate.verify(
        _chain(run, built, base, tuned), config.verify, steps, before=(unchanged,)
    )
    gate.write(run, checked)
    return checked


def _complete(run: Path, work: Plan, options: Options, steps: Steps) -> None:
    discard_partial(run)
    write_atomically(run / "config.toml", tomli_w.dumps(to_dict(work.config)).encode())
    ledger = Ledger(run, work.config_hash)
    builder = Builder(run, work.source, work.config, provenance(work.source))
    built = builder.build(list(work.types), ledger, steps)
    metrics: dict[str, Any] = {}
    if options.verify:
        base, tuned = None, None
        if built.adapter is not None:
            base, tuned = work.source.weights, work.source.path
        built = _with_folder(built, work.source)
        checked = gate.verify(_chain(run, built, base, tuned), work.config.verify, steps)
        gate.write(run, checked)
        checked.require()
        metrics = checked.metrics()
    outputs, peak = builder.outputs(), peak_bytes()
    if peak is not None:
        metrics["peak_memory_bytes"] = peak
    write_json(run / MANIFEST, manifest(run, work, outputs, metrics))
    ledger.finish()


def _with_folder(built: Built, source: Source) -> Built:
    if source.kind == "hf_dir":
        return msgspec.structs.replace(built, merged=source.path)
    return built


def _chain(run: Path, built: Built, base: Path | None, tuned: Path | None) -> Chain:
    heldout = run / "heldout.jsonl"
    return Chain(
        merged=built.merged,
        reference=built.ggufs[0],
        quants=built.ggufs[1:],
        base=base,
        tuned=tuned,
        adapter=built.adapter,
        conversations=tuple(read_examples(heldout)) if heldout.is_file() else (),
    )


def _hf_input(written: Manifest) -> Path | None:
    refs = [Path(record.ref) for record in written.inputs if record.role == "model"]
    return next((ref for ref in refs if ref.is_dir()), None)
