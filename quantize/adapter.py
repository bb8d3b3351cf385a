"""A PEFT LoRA adapter on disk: read, and refused when it cannot be merged exactly.

Merging adds (scale x B @ A) to a weight. Whatever an adapter does beyond that is named and refused
here, before any work, rather than dropped in silence.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec

from quantize.errors import MergeError

_TENSOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
# Initialisations that also change the base weights, so that adding B @ A is not the whole story.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class LoraPair(msgspec.Struct, frozen=True, kw_only=True):
    """Name the two tensors of one target and the factor before their product."""

    weight: str
    """Name of the base tensor they change."""
    a_name: str
    b_name: str
    scale: float


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """Describe an adapter that is ready to be merged."""

    weights: Path
    pairs: dict[str, LoraPair]
    """By base tensor name."""
    rank: int
    alpha: float


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's configuration and the names of its tensors.

    Raises:
        MergeError: when a file is missing or the adapter is of a kind that has no exact merge.
    """
    config = _config(folder / "adapter_config.json")
    _require_plain_lora(folder, config)
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise MergeError(f"{folder} has no adapter_model.safetensors")
    return Adapter(
        weights=weights,
        pairs=_pairs(weights, config),
        rank=config["r"],
        alpha=config["lora_alpha"],
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MergeError(f"cannot read the adapter's configuration {path}: {error}") from error
    missing = [key for key in ("peft_type", "r", "lora_alpha") if key not in config]
    if missing:
        raise MergeError(f"{path} lacks {', '.join(missing)}")
    return config


def _require_plain_lora(folder: Path, config: dict[str, Any]) -> None:
    start = str(config.get("init_lora_weights", "")).lower()
    reasons = {
        f"peft_type is {config['peft_type']}": config["peft_type"] != "LORA",
        "use_dora rescales each column as well": config.get("use_dora"),
        "modules_to_save replaces whole modules": config.get("modules_to_save"),
        "target_parameters change expert tensors": config.get("target_parameters"),
        "trainable_token_indices replace embedding rows": config.get("trainable_token_indices"),
        "layer_replication changes the architecture": config.get("layer_replication"),
        "bias terms were trained": config.get("bias", "none") != "none" or config.get("lora_bias"),
        "fan_in_fan_out stores weights transposed": config.get("fan_in_fan_out"),
        f"init_lora_weights={start} changed the base": start.startswith(_CHANGES_BASE),
        "use_qalora pools its inputs": config.get("use_qalora"),
    }
    for reason, applies in reasons.items():
        if applies:
            raise MergeError(
                f"the adapter in {folder} cannot be merged exactly: {reason}; "
                "train a plain LoRA adapter"
            )


def _pairs(weights: Path, config: dict[str, Any]) -> dict[str, LoraPair]:
    from safetensors import safe_open

    sides: dict[str, dict[str, str]] = {}
    ranks: dict[str, int] = {}
    with safe_open(weights, framework="pt") as tensors:
        for name in tensors.keys():  # noqa: SIM118  # not a mapping: it only has keys()
            found = _TENSOR.match(name)
            if found is None:
                raise MergeError(f"{weights} holds {name}, which is no LoRA pair of a linear layer")
            sides.setdefault(found["module"], {})[found["side"]] = name
            if found["side"] == "A":
                ranks[found["module"]] = tensors.get_slice(name).get_shape()[0]
    incomplete = [module for module, pair in sides.items() if len(pair) != 2]
    if incomplete or not sides:
        raise MergeError(f"{weights} lacks one half of a pair: {incomplete or 'it is empty'}")
    return {
        f"{module}.weight": LoraPair(
            weight=f"{module}.weight",
            a_name=pair["A"],
            b_name=pair["B"],
            scale=_scale(module, ranks[module], config),
        )
        for module, pair in sides.items()
    }


def _scale(module: str, rank: int, config: dict[str, Any]) -> float:
    """Return alpha / r, or alpha / sqrt(r) for rank-stabilised adapters."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))
