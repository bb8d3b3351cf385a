"""LoRA training with Unsloth and TRL, the same code on GPU and CPU.

    rows in order -> SFTTrainer -> checkpoints/ ... -> adapter/

Rows arrive as token ids with labels, so the trainer changes nothing about what is learnt. Knows no
run manifest and no file format of examples.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from finetune import shaping
from finetune.arguments import trainer_arguments
from finetune.best import HeldoutWatch
from finetune.checkpoints import figures_until, load_adapter, newest_checkpoint, step_of
from finetune.data.packing import Row
from finetune.errors import InterruptedRunError, TrainingError
from finetune.heldout import response_loss_nats
from finetune.libraries import gpu_name
from finetune.loggers import make_callbacks
from finetune.noise import EmbeddingNoise
from finetune.observer import Observer, make_callback
from finetune.preference_trainer import HeldoutPreferences, make_preference_trainer
from finetune.processes import from_main, is_main, num_processes, say, wait_for_all
from finetune.progress import Progress
from finetune.run import Run
from finetune.shaping import Decision
from finetune.steps import Schedule, StepShape, make_schedule
from finetune.stopping import StopWish
from finetune.task import Outcome, Task

ADAPTER = "adapter"
Measure = Callable[[], float]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One pass of the trainer; `best_step` has the lowest held-out loss, None if not watched."""

    observer: Observer
    best_step: int | None


def train(task: Task) -> Outcome:
    """Train, measure the held-out loss before and after, and save the adapter.

    Continues from the newest checkpoint of the run when there is one.

    Raises:
        InterruptedRunError: a signal came; a checkpoint is saved.
        TrainingError: the loss is not finite, or memory ran out.
    """
    before = _loss_before(task)
    preferences = _preferences(task)
    decision = _decide(task)
    measure = preferences.loss_nats if preferences else lambda: _response_loss(task)
    decision, session = _train_halving(task, decision, measure)
    observer, schedule = session.observer, session.observer.schedule
    after = _loss_after(task) if is_main() else 0.0
    wait_for_all()
    return Outcome(
        heldout_response_loss_before_nats=before,
        heldout_response_loss_after_nats=after,
        final_train_loss_nats=from_main(observer.last_loss),
        num_steps=observer.reached,
        num_planned_steps=schedule.num_steps,
        best_step=session.best_step,
        num_epochs=schedule.epochs_until(observer.reached),
        rows_per_step=schedule.shape.rows_per_step,
        row_tokens=schedule.shape.row_tokens,
        train_tokens=schedule.tokens_until(observer.reached),
        train_seconds=observer.total_seconds,
        expected_peak_gpu_memory_bytes=decision.expected_bytes,
        preference_figures=preferences.figures() if preferences else {},
    )


def _preferences(task: Task) -> HeldoutPreferences | None:
    """Note the odds that training begins with; the adapter is still the parent's here."""
    if task.pairs is None or not is_main():
        return None
    return HeldoutPreferences(task.model, task.pairs.heldout, task.settings.dpo_beta)


def _response_loss(task: Task) -> float:
    return response_loss_nats(task.model, task.prepared.heldout.encoded)


def _loss_before(task: Task) -> float:
    """Measure before the first step: the base's loss, or that of the run gone on with."""
    for event in task.run.events("heldout_loss"):
        if event["moment"] == "before":
            return float(event["loss_nats"])
    if not is_main():
        return 0.0
    num_rows = len(task.prepared.heldout.encoded)
    print(f"measuring the loss on {num_rows} held-out examples", file=sys.stderr)
    loss = _response_loss(task)
    task.run.log("heldout_loss", moment="before", loss_nats=loss)
    return loss


def _loss_after(task: Task) -> float:
    print("measuring the held-out loss after training", file=sys.stderr)
    loss = _response_loss(task)
    task.run.log("heldout_loss", moment="after", loss_nats=loss)
    task.model.save_pretrained(task.run.path / ADAPTER)
    return loss


def _decide(task: Task) -> Decision:
    """Choose the shape of a step, or keep the one an unfinished run has started with."""
    wait_for_all()
    decision = shaping.decide(task.fast_model, task.model, task.prepared.train, task.settings)
    logged = task.run.events("step_shape")
    if logged and logged[-1]["row_tokens"]:
        shape = StepShape(
            row_tokens=logged[-1]["row_tokens"], rows_per_step=logged[-1]["rows_per_step"]
        )
        decision = msgspec.structs.replace(decision, shape=shape)
    _announce(task.run, decision)
    return decision


def _announce(run: Run, decision: Decision) -> None:
    if is_main():
        run.log("step_shape", **msgspec.to_builtins(decision.shape), why=decision.describe())
        print(f"{'step:':<10}{decision.describe()}", file=sys.stderr)


def _train_halving(task: Task, decision: Decision, measure: Measure) -> tuple[Decision, Session]:
    """Train; when memory runs out, once more with rows of half the length."""
    import torch

    fresh = _adapter_weights(task.model)
    try:
        return decision, _train(task, decision, measure)
    except torch.OutOfMemoryError:
        longest = max(row.num_tokens for row in task.prepared.train.encoded)
        half = decision.shape.halved(longest)
        if half is None or num_processes() > 1 or newest_checkpoint(task.run.path) is not None:
            raise _out_of_memory(decision) from None
    torch.cuda.empty_cache()
    print(f"out of GPU memory at rows of {decision.shape.row_tokens:,} tokens", file=sys.stderr)
    decision = msgspec.structs.replace(decision, shape=half)
    _announce(task.run, decision)
    task.model.load_state_dict(fresh, strict=False)
    try:
        return decision, _train(task, decision, measure)
    except torch.OutOfMemoryError:
        raise _out_of_memory(decision) from None


def _adapter_weights(model: Any) -> dict[str, Any]:
    return {
        name: weight.detach().cpu().clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }


def _out_of_memory(decision: Decision) -> TrainingError:
    rows = decision.shape.row_tokens
    what = f"rows of {rows:,} tokens" if rows else "the configured batch"
    return TrainingError(
        f"out of GPU memory with {what}: lower train.row_tokens, train.batch_size or "
        "train.max_seq_length, or set train.gradient_checkpointing or train.load_in_4bit"
    )


def _train(task: Task, decision: Decision, measure: Measure) -> Session:
    pad_id = task.tokenizer.pad_token_id or 0
    settings, run = task.settings, task.run
    schedule = make_schedule(task.rows, settings, decision.shape, pad_id=pad_id)
    _log_estimate(run, decision, schedule)
    checkpoint = newest_checkpoint(run.path)
    trainer = make_trainer(task, decision, schedule)
    reached = step_of(checkpoint) if checkpoint else 0
    seconds, last_loss = figures_until(run, checkpoint)
    watch = _watch(task, checkpoint, measure)
    with StopWish() as wish, Progress(schedule.num_steps, shown=is_main()) as progress:
        observer = Observer(run, progress, wish, schedule, seconds_before=seconds)
        observer.resume(reached, last_loss)
        trainer.add_callback(make_callback(observer, watch, trainer.log))
        for callback in make_callbacks(settings.loggers, run.path, first_step=reached + 1):
            trainer.add_callback(callback)
        if not watch.is_exhausted:
            if gpu_name() is not None:
                say("the first step compiles kernels; that can take a minute or more")
            with EmbeddingNoise(task.model, settings.neftune_alpha):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    observer.raise_non_finite()
    _raise_interrupted(observer, watch)
    if watch.best_folder is not None:
        load_adapter(task.model, watch.best_folder)
    return Session(observer=observer, best_step=watch.best_step)


def _watch(task: Task, checkpoint: Path | None, measure: Measure) -> HeldoutWatch:
    """Return the watch over the held-out loss, brought up to a checkpoint."""
    watch = HeldoutWatch(
        task.run,
        patience=task.settings.early_stopping_patience,
        keep_best=task.settings.keep_best,
        measure=measure,
        save=task.model.save_pretrained,
    )
    if checkpoint is not None and watch.is_on:
        load_adapter(task.model, checkpoint)
        watch.resume(step_of(checkpoint))
    return watch


def _raise_interrupted(observer: Observer, watch: HeldoutWatch) -> None:
    signal_number, reached = observer.wish.signal_number, observer.reached
    num_steps = observer.schedule.num_steps
    if signal_number is None or reached >= num_steps or watch.is_exhausted:
        return
    observer.log("interrupted", step=reached)
    raise InterruptedRunError(
        f"stopped after step {reached} of {num_steps}; continue with: "
        f"python -m finetune --resume {observer.run.path}",
        signal_number=signal_number,
    )


def _log_estimate(run: Run, decision: Decision, schedule: Schedule) -> None:
    """Keep the time that the measured rows let expect, so that it can be checked afterwards."""
    if decision.costs is not None and is_main():
        rate = decision.costs.tokens_per_second * num_processes()
        seconds = schedule.tokens_until(schedule.num_steps) / rate
        run.log("estimated", train_seconds=seconds, tokens_per_second=rate)


def make_trainer(task: Task, decision: Decision, schedule: Schedule) -> Any:
    """Return TRL's trainer over the rows of a schedule, in their order."""
    from transformers import PrinterCallback, ProgressCallback

    arguments = trainer_arguments(
        task.settings, decision, schedule, task.run.path, num_processes=num_processes()
    )
    if task.pairs:
        order = [row.examples[0] for row in schedule.rows]
        trainer = make_preference_trainer(
            task.model, task.tokenizer, arguments, task.pairs.train, order
        )
    else:
        trainer = _answer_trainer(task, arguments, schedule)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _answer_trainer(task: Task, arguments: Any, schedule: Schedule) -> Any:
    from datasets import Dataset
    from trl import SFTTrainer

    is_packed = bool(schedule.shape.row_tokens)
    columns = [_columns(row, is_packed=is_packed) for row in schedule.rows]
    table = Dataset.from_list(columns).with_format("numpy")  # lists of 30k tokens are slow to read
    return SFTTrainer(
        model=task.model, processing_class=task.tokenizer, train_dataset=table, args=arguments
    )


def _columns(row: Row, *, is_packed: bool) -> dict[str, list[int]]:
    columns = {"input_ids": row.input_ids, "labels": row.labels}
    return columns | {"seq_lengths": row.seq_lengths} if is_packed else columns
