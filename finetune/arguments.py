"""The configuration in the trainer's words.

Knows TRL's SFTConfig. Knows no data and no model.
"""

from pathlib import Path
from typing import Any

from finetune import checkpoints
from finetune.config import TrainConfig
from finetune.home import APPLICATION
from finetune.libraries import gpu_name, half_precision
from finetune.shaping import Decision
from finetune.steps import Schedule, per_process


def trainer_arguments(
    settings: TrainConfig,
    decision: Decision,
    schedule: Schedule,
    folder: Path,
    *,
    num_processes: int,
) -> Any:
    """Return SFTConfig, or DPOConfig for pairs, for rows that come ready and in order."""
    from trl import DPOConfig, SFTConfig

    shared = _shared(settings, decision, schedule, folder, num_processes=num_processes)
    max_length = schedule.shape.row_tokens or settings.max_seq_length
    if settings.method == "dpo":
        beta = settings.dpo_beta
        return DPOConfig(**shared, max_length=max_length, beta=beta, precompute_ref_log_probs=True)
    return SFTConfig(
        **shared,
        max_length=max_length,
        packing=bool(schedule.shape.row_tokens),
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _shared(
    settings: TrainConfig,
    decision: Decision,
    schedule: Schedule,
    folder: Path,
    *,
    num_processes: int,
) -> dict[str, Any]:
    """Return what both methods have in common."""
    rows = per_process(schedule.shape, num_processes)
    batch = 1 if schedule.shape.row_tokens else min(settings.batch_size, rows)
    return dict(
        output_dir=str(folder / checkpoints.FOLDER),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        max_steps=schedule.num_steps,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=rows // batch,
        gradient_checkpointing=decision.gradient_checkpointing,
        train_sampling_strategy="sequential",
        logging_steps=settings.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        save_steps=settings.save_steps,
        save_total_limit=2,
        seed=settings.seed,
        optim="adamw_torch",
        **_precision(),
        report_to="none",
        project=APPLICATION,
        run_name=folder.name,  # as loggers show it
        disable_tqdm=True,
    )


def _precision() -> dict[str, bool]:
    """Choose mixed precision: none on a CPU, bfloat16 where the GPU has it, else float16."""
    import torch

    narrow = half_precision() if gpu_name() is not None else None
    return {"bf16": narrow is torch.bfloat16, "fp16": narrow is torch.float16}
