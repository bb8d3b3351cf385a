"""Make a loaded model ready: its weights in memory, its threads set, the cost of its rows known.

Knows nothing of requests; the worker has not started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serve.engine import machine
from serve.engine.chunking import RowCosts
from serve.engine.context import computes_on_gpu
from serve.engine.tuning import QUICK, Effort, Tuning, measure, on_a_thread_that_ends
from serve.engine.tuning_store import keep, recall, tuning_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.engine.config import EngineConfig
    from serve.engine.model import Model


def wake(model: Model, config: EngineConfig, note: Callable[[str], None]) -> RowCosts:
    """Return what rows cost: as kept or, with a `tuning_folder`, measured; else from a few rows."""
    costs = RowCosts()
    tuning = _recalled(model, config) or (config.tuning_folder and tune(model, config, note=note))
    if not tuning:
        costs.observe_prefill(*on_a_thread_that_ends(model.warm_up))
        return costs
    costs.seed(
        seconds_per_row=tuning.seconds_per_prompt_row,
        decode_seconds=tuning.row_seconds[1],
        best_chunk=tuning.best_chunk,
    )
    return costs


def tune(
    model: Model, config: EngineConfig, *, note: Callable[[str], None], effort: Effort = QUICK
) -> Tuning:
    """Measure now, set the model's threads, and keep the figures where there is a folder."""
    counts = _thread_counts(config)
    note(f"measuring what {model.info.name} needs on this machine, once; --no-tune skips it")
    tuning = measure(model, counts, num_outputs=model.info.n_slots, effort=effort)
    _note_tuning(model, tuning)
    note(
        f"measured in {tuning.measuring_seconds:.1f} s: {tuning.threads} threads, "
        f"{1 / tuning.row_seconds[1]:.1f} tok/s writing, "
        f"{1 / tuning.seconds_per_prompt_row:.0f} tok/s reading"
    )
    if not tuning.is_quiet and not computes_on_gpu(config):
        note(
            f"the machine is busy ({tuning.cpu_share:.0%} of the processor was ours): the figures "
            "are not kept, and the threads are one a core"
        )
    elif config.tuning_folder is not None:
        file = tuning_file(config, model.info, n_batch=model.n_batch)
        try:
            keep(file, tuning)
        except OSError as error:
            note(f"the figures cannot be kept in {file}: {error.strerror}")
    return tuning


def _thread_counts(config: EngineConfig) -> list[int]:
    """Return what to try: nothing but the number configured, nor where a GPU computes."""
    if config.threads:
        return [config.threads]
    counts = machine.thread_counts()
    return counts[:1] if computes_on_gpu(config) else counts


def _recalled(model: Model, config: EngineConfig) -> Tuning | None:
    if config.tuning_folder is None:
        return None
    tuning = recall(tuning_file(config, model.info, n_batch=model.n_batch))
    if tuning is not None:
        model.set_threads(tuning.threads, tuning.threads_batch)
        _note_tuning(model, tuning)
        on_a_thread_that_ends(model.warm_up)
    return tuning


def _note_tuning(model: Model, tuning: Tuning) -> None:
    model.info = msgspec.structs.replace(model.info, threads=tuning.threads, tuning=tuning)
