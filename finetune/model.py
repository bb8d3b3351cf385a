"""The base model with fresh LoRA layers, loaded with Unsloth.

Knows Unsloth's FastLanguageModel. Knows no data and no trainer.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.config import Config, LoraConfig
from finetune.errors import ConfigError
from finetune.libraries import gpu_name
from finetune.processes import num_processes


def load_model(
    fast_model: Any, weights: Path, config: Config, *, new_token_ids: Sequence[int] = ()
) -> Any:
    """Load the base and put LoRA layers on it; activations are kept, not computed twice.

    The embedding rows of `new_token_ids` are trained as well.

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
    _require_modules(model, config.lora.modules_to_save)
    try:
        return fast_model.get_peft_model(
            model,
            r=config.lora.r,
            lora_alpha=config.lora.alpha,
            lora_dropout=config.lora.dropout,
            target_modules=list(config.lora.target_modules),
            **_variants(model, config.lora, new_token_ids),
            bias="none",
            use_gradient_checkpointing=False,
            random_state=config.train.seed,
            max_seq_length=config.train.max_seq_length,
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"lora.target_modules or lora.modules_to_save do not fit this model: {error}"
        ) from error


def _require_modules(model: Any, names: Sequence[str]) -> None:
    """Refuse what PEFT would pass over in silence, or train apart from the matrix it is."""
    present = [name for name, _ in model.named_modules()]
    for name in names:
        if not any(each.endswith(name) for each in present):
            raise ConfigError(
                f"lora.modules_to_save names {name}, which no module of this model ends with; "
                "embed_tokens, lm_head and norm are usual"
            )
        if name == "lm_head" and model.config.tie_word_embeddings:
            raise ConfigError(
                "lora.modules_to_save names lm_head, which this base shares with its embedding; "
                "name embed_tokens alone"
            )


def _variants(model: Any, lora: LoraConfig, new_token_ids: Sequence[int]) -> dict[str, Any]:
    """Return what of the adapter goes beyond plain LoRA, in PEFT's words."""
    chosen: dict[str, Any] = {"use_rslora": lora.use_rslora}
    if lora.use_dora:
        chosen["use_dora"] = True
    if lora.modules_to_save:
        chosen["modules_to_save"] = list(lora.modules_to_save)
    if new_token_ids:
        chosen["trainable_token_indices"] = {
            name: list(new_token_ids) for name in _embeddings(model)
        }
    return chosen


def _embeddings(model: Any) -> list[str]:
    """Return the names of the embedding and, where it is not the same matrix, of the output."""
    wanted = [model.get_input_embeddings()]
    if not model.config.tie_word_embeddings:
        wanted.append(model.get_output_embeddings())
    return [
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if any(module is each for each in wanted)
    ]


def set_checkpointing(fast_model: Any, model: Any, *, enabled: bool) -> None:
    """Let the backward pass compute activations anew (slower, far less memory), or keep them."""
    fast_model.for_training(model, use_gradient_checkpointing=enabled)
