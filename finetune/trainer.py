"""LoRA training with Unsloth and TRL, the same code on GPU and CPU.

    rows -> SFTTrainer -> checkpoints/ ... -> adapter/

Rows arrive as token ids with labels, so the trainer changes nothing about what is learnt. Knows no
run manifest and no file format of examples.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec

from finetune.config import Config
from finetune.data.prepare import Prepared
from finetune.data.tokens import IGNORED, Encoded
from finetune.errors import ConfigError, InterruptedRunError, TrainingError
from finetune.heldout import response_loss_nats
from finetune.libraries import gpu_name
from finetune.observer import Observer, make_callback
from finetune.packed_attention import enable_packed_attention
from finetune.progress import Progress
from finetune.run import Run
from finetune.stopping import StopWish

CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
PREPARED = {"skip_prepare_dataset": True}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What training did, in the units of the manifest."""

    heldout_response_loss_before_nats: float
    heldout_response_loss_after_nats: float
    final_train_loss_nats: float
    num_steps: int
    num_epochs: float
    train_tokens: int
    train_seconds: float

    @property
    def train_tokens_per_second(self) -> float:
        """Real tokens, padding left out, per second of training."""
        return self.train_tokens / self.train_seconds if self.train_seconds else 0.0


def load_model(fast_model: Any, weights: Path, config: Config) -> Any:
    """Load the base with Unsloth's FastLanguageModel and put fresh LoRA layers on it.

    Raises:
        ConfigError: 4-bit on a CPU, or target modules the model does not have.
    """
    import torch

    on_gpu = gpu_name() is not None
    if config.train.load_in_4bit and not on_gpu:
        raise ConfigError("train.load_in_4bit is true but there is no GPU; set it to false")
    model, _ = fast_model.from_pretrained(
        model_name=str(weights),
        max_seq_length=config.train.max_seq_length,
        dtype=None if on_gpu else torch.float32,
        load_in_4bit=config.train.load_in_4bit,
    )
    try:
        return fast_model.get_peft_model(
            model,
            r=config.lora.r,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=list(config.lora.target_modules),
            use_rslora=config.lora.use_rslora,
            bias="none",
            use_gradient_checkpointing="unsloth" if config.train.gradient_checkpointing else False,
            random_state=config.train.seed,
            max_seq_length=config.train.max_seq_length,
        )
    except ValueError as error:
        raise ConfigError(f"lora.target_modules does not fit this model: {error}") from error


def train(
    model: Any, tokenizer: Any, prepared: Prepared, config: Config, run: Run, *, resume: bool
) -> Outcome:
    """Train, measure the held-out loss before and after, and save the adapter.

    Raises:
        InterruptedRunError: a signal came; a checkpoint is saved.
        TrainingError: the loss is not finite, or memory ran out.
    """
    before = _loss_before(model, prepared.heldout.encoded, run)
    checkpoint = newest_checkpoint(run.path) if resume else None
    trainer = _make_trainer(model, tokenizer, prepared.train.encoded, config, run.path)
    num_steps = _num_steps(trainer)
    with StopWish() as wish, Progress(num_steps) as progress:
        observer = Observer(run, progress, wish, seconds_before=_seconds_until(run, checkpoint))
        trainer.add_callback(make_callback(observer))
        _run_trainer(trainer, checkpoint, config)
    observer.raise_non_finite()
    if wish.signal_number is not None and trainer.state.global_step < num_steps:
        run.log("interrupted", step=trainer.state.global_step)
        raise InterruptedRunError(
            f"stopped after step {trainer.state.global_step} of {num_steps}; continue with: "
            f"python -m finetune --resume {run.path}",
            signal_number=wish.signal_number,
        )
    print("measuring the held-out loss after training", file=sys.stderr)
    after = response_loss_nats(model, prepared.heldout.encoded)
    run.log("heldout_loss", moment="after", loss_nats=after)
    model.save_pretrained(run.path / ADAPTER)
    return Outcome(
        heldout_response_loss_before_nats=before,
        heldout_response_loss_after_nats=after,
        final_train_loss_nats=run.events("step")[-1]["loss_nats"],
        num_steps=trainer.state.global_step,
        num_epochs=float(trainer.state.epoch or 0.0),
        train_tokens=int(trainer.state.num_input_tokens_seen),
        train_seconds=observer.total_seconds,
    )


def _loss_before(model: Any, rows: tuple[Encoded, ...], run: Run) -> float:
    """Measure before the first step; fresh LoRA layers add nothing, so this is the base's loss."""
    for event in run.events("heldout_loss"):
        if event["moment"] == "before":
            return float(event["loss_nats"])
    print(f"measuring the loss on {len(rows)} held-out examples", file=sys.stderr)
    loss = response_loss_nats(model, rows)
    run.log("heldout_loss", moment="before", loss_nats=loss)
    return loss


def _make_trainer(
    model: Any, tokenizer: Any, rows: tuple[Encoded, ...], config: Config, folder: Path
) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback
    from trl import SFTTrainer

    args = _arguments(config, folder)
    if args.packing:
        enable_packed_attention()
    table = Dataset.from_list([_columns(row, packed=args.packing) for row in rows])
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=table,
        args=args,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def _columns(row: Encoded, *, packed: bool) -> dict[str, list[int]]:
    """Return one row of the trainer's table; the packer takes a mask where others take labels."""
    if packed:
        mask = [int(label != IGNORED) for label in row.labels]
        return {"input_ids": row.input_ids, "completion_mask": mask}
    return {"input_ids": row.input_ids, "labels": row.labels}


def _arguments(config: Config, folder: Path) -> Any:
    from trl import SFTConfig

    settings = config.train
    packing = settings.packing and gpu_name() is not None
    if settings.packing and not packing:
        print("train.packing needs a GPU; training unpacked", file=sys.stderr)
    ready = {"completion_only_loss": True} if packing else {"dataset_kwargs": dict(PREPARED)}
    return SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.grad_accumulation,
        gradient_checkpointing=settings.gradient_checkpointing,
        max_length=settings.max_seq_length,
        packing=packing,
        logging_steps=settings.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=settings.save_steps,
        save_total_limit=2,
        seed=settings.seed,
        optim="adamw_torch",
        **_precision(),
        include_num_input_tokens_seen="all" if packing else "non_padding",
        report_to="none",
        disable_tqdm=True,
        **ready,
    )


def _precision() -> dict[str, bool]:
    """Choose mixed precision: none on a CPU, bfloat16 where the GPU has it, else float16."""
    import torch

    on_gpu = gpu_name() is not None
    bf16 = on_gpu and torch.cuda.is_bf16_supported()
    return {"bf16": bf16, "fp16": on_gpu and not bf16}


def _num_steps(trainer: Any) -> int:
    """Return how many optimizer steps the trainer will take."""
    if trainer.args.max_steps > 0:
        return int(trainer.args.max_steps)
    per_epoch = -(-len(trainer.get_train_dataloader()) // trainer.args.gradient_accumulation_steps)
    return max(1, -int(-per_epoch * trainer.args.num_train_epochs // 1))


def _run_trainer(trainer: Any, checkpoint: Path | None, config: Config) -> None:
    import torch

    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of GPU memory with train.batch_size={config.train.batch_size} and "
            f"train.max_seq_length={config.train.max_seq_length}: lower one, or set "
            "train.gradient_checkpointing or train.load_in_4bit"
        ) from error


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that was written whole; its state file comes last."""
    found = [
        path
        for path in (folder / CHECKPOINTS).glob("checkpoint-*")
        if (path / "trainer_state.json").is_file() and (path / "optimizer.pt").is_file()
    ]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _seconds_until(run: Run, checkpoint: Path | None) -> float:
    """Return the training time already spent when a checkpoint was written."""
    if checkpoint is None:
        return 0.0
    reached = int(checkpoint.name.rpartition("-")[2])
    spent = [e["elapsed_seconds"] for e in run.events("step") if e["step"] <= reached]
    return float(max(spent, default=0.0))


def remove_checkpoints(folder: Path) -> None:
    """Delete what only an unfinished run needs."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
