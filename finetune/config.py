"""The configuration tree of the finetune stage and how it is read.

Knows types, defaults and cross-field rules. Does not know where base models or data come from, and
reads no environment variable.
"""

import re
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from finetune.data.settings import DataConfig
from finetune.errors import ConfigError
from finetune.overrides import apply_overrides, check_keys, choices_of

PACKAGED_BASE = "packaged:smollm2-135m-instruct"
LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every table of the configuration has in common."""


class BaseModelConfig(_Section, frozen=True, kw_only=True):
    """Which weights to start from.

    `ref` is `packaged:smollm2-135m-instruct`, a GGUF file, a Hugging Face folder, or a hub id with
    an optional `@revision`. `licence` overrides what the weights say about themselves. `adapter`
    is a finished run of the same base whose adapter is trained further.
    """

    ref: str = PACKAGED_BASE
    adapter: str | None = None
    licence: str | None = None


class TemplateConfig(_Section, frozen=True, kw_only=True):
    """How messages become text.

    `name` is `base` (the base model's own), a built-in, or `none` where only texts are learnt;
    `file` is a Jinja file and wins.
    `eos_token` is the token that ends a turn, when the template's is not the tokenizer's own.
    """

    name: str = "base"
    file: str | None = None
    eos_token: str | None = None


class LoraConfig(_Section, frozen=True, kw_only=True):
    """The shape of the adapter; the update is scaled by alpha/r (alpha/sqrt(r) with rsLoRA).

    With DoRA each weight's row keeps a length of its own, learnt apart from its direction.
    `modules_to_save` are trained whole, such as `embed_tokens` or norms.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0
    target_modules: tuple[str, ...] = LINEAR_LAYERS
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.r < 1 or self.alpha < 1:
            raise ValueError(f"lora.r is {self.r} and lora.alpha {self.alpha}; both start at 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout is {self.dropout}; it must lie in [0, 1)")
        if not self.target_modules:
            raise ValueError("lora.target_modules is empty; name at least one layer")


class TrainConfig(_Section, frozen=True, kw_only=True):
    """How the adapter is trained: on answers (`sft`), or on pairs of a better and a worse (`dpo`).

    Unpacked, a step is batch_size x grad_accumulation examples. Packed, it is `step_tokens` tokens
    in rows of at most `row_tokens`; 0 chooses both, from the amount of data and the GPU's memory.
    `auto` packs wherever there is a GPU, and keeps activations wherever they fit.

    `neftune_alpha` scales noise on the embeddings (5 is usual, 0: none). The held-out loss is
    measured at every checkpoint, each `save_steps`, when `keep_best` keeps the adapter that has the
    lowest, or `early_stopping_patience` ends training after that many checkpoints without a lower.
    """

    method: Literal["sft", "dpo"] = "sft"
    dpo_beta: float = 0.1
    learning_rate: float = 5e-4
    lr_scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    warmup_steps: int = 2
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: float = 1.0
    max_steps: int = 0
    batch_size: int = 1
    grad_accumulation: int = 4
    max_seq_length: int = 384
    packing: bool | Literal["auto"] = "auto"
    step_tokens: int = 0
    row_tokens: int = 0
    load_in_4bit: bool = False
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    logging_steps: int = 1
    save_steps: int = 10
    neftune_alpha: float = 0.0
    early_stopping_patience: int = 0
    keep_best: bool = False
    loggers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    seed: int = 3407

    def __post_init__(self) -> None:
        for name in ("batch_size", "grad_accumulation", "logging_steps", "save_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_seq_length < 8:
            raise ValueError(f"train.max_seq_length is {self.max_seq_length}; it starts at 8")
        for name in ("learning_rate", "dpo_beta"):
            if getattr(self, name) <= 0:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must be above 0")
        if self.method == "dpo" and self.packing is True:
            raise ValueError("train.packing is true, but pairs are not packed; leave it out")
        numbers = ("max_steps", "warmup_steps", "seed", "step_tokens", "row_tokens")
        for name in (*numbers, "neftune_alpha", "early_stopping_patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} is {getattr(self, name)}; it must not be negative")
        if self.max_steps == 0 and self.epochs <= 0:
            raise ValueError("set train.epochs or train.max_steps above 0")


class Config(_Section, frozen=True, kw_only=True):
    """Everything that shapes a fine-tune."""

    base_model: BaseModelConfig = BaseModelConfig()
    data: DataConfig = DataConfig()
    template: TemplateConfig = TemplateConfig()
    lora: LoraConfig = LoraConfig()
    train: TrainConfig = TrainConfig()

    def __post_init__(self) -> None:
        if self.train.method == "dpo" and (self.data.texts or self.data.fim.rate):
            raise ValueError(
                "train.method is dpo, which learns from preferred and rejected answers alone; "
                "leave out data.texts and data.fim"
            )
        if self.base_model.adapter and self.data.fim.rate:
            raise ValueError(
                "data.fim may add tokens, and base_model.adapter goes on with an adapter as it is; "
                "leave one of them out"
            )


def load_config(path: Path, overrides: list[str]) -> Config:
    """Read a TOML file and apply `a.b=value` overrides.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, or a value out of bounds.
    """
    tree = _read_toml(path)
    check_keys(tree, Config, where=str(path))
    apply_overrides(tree, overrides, Config)
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        where = f"{path} with --set {' --set '.join(overrides)}" if overrides else str(path)
        raise ConfigError(f"{where}: {_dotted(str(error))}{_choices(str(error))}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder; name a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _choices(message: str) -> str:
    """List what may stand there instead of a value that is none of a few."""
    key = re.search(r"^Invalid enum value .* at `\$\.([\w.]+)`", message)
    choices = choices_of(Config, key[1]) if key else []
    return f"; choose from {', '.join(choices)}" if choices else ""


def _dotted(message: str) -> str:
    """Turn msgspec's `$.train.epochs` into the key as the user wrote it."""
    return message.replace(" - at `$.", " (at `").replace(" - at `$`", "") + (
        ")" if " - at `$." in message else ""
    )


def to_plain(config: Config) -> dict[str, Any]:
    """Return the effective configuration as plain JSON types."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))
    return plain


def to_toml(config: Config) -> str:
    """Return the effective configuration as TOML; unset values are left out."""
    import tomli_w

    return tomli_w.dumps(_without_unset(to_plain(config)))


def _without_unset(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_unset(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if value is not None
    }
