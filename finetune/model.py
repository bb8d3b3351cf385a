"""The base model with fresh LoRA layers, loaded with Unsloth.

Knows Unsloth's FastLanguageModel. Knows no data and no trainer.
"""

import os
from pathlib import Path
from typing import Any

from finetune.config import Config
from finetune.errors import ConfigError
from finetune.libraries import gpu_name
from finetune.processes import num_processes


def load_model(fast_model: Any, weights: Path, config: Config) -> Any:
    """Load the base and put LoRA layers on it; activations are kept, not computed twice.

    Raises:
        ConfigError: 4-bit on a CPU, or target modules the model does not have.
    """
    import torch

    on_gpu = gpu_name() is not None
    if config.train.load_in_4bit and not on_gpu:
        raise ConfigError("train.load_in_4bit is true but there is no GPU; set it to false")
    place = {"device_map": {"": int(os.environ["LOCAL_RANK"])}} if num_processes() > 1 else {}
    model, _ = fast_model.from_pretrained(
        model_name=str(weights),
        max_seq_length=config.train.max_seq_length,
        dtype=None if on_gpu else torch.float32,
        load_in_4bit=config.train.load_in_4bit,
        **place,
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
            use_gradient_checkpointing=False,
            random_state=config.train.seed,
            max_seq_length=config.train.max_seq_length,
        )
    except ValueError as error:
        raise ConfigError(f"lora.target_modules does not fit this model: {error}") from error


def set_checkpointing(fast_model: Any, model: Any, *, enabled: bool) -> None:
    """Let the backward pass compute activations anew (slower, far less memory), or keep them."""
    fast_model.for_training(model, use_gradient_checkpointing=enabled)
