"""A PEFT LoRA adapter on disk: read, and refused when it cannot be merged exactly.

    LoRA, rsLoRA      W + scale x B @ A
    DoRA              each row of that, brought to the length m that was learnt for it
    modules_to_save   W is replaced
    trained tokens    rows of W are replaced

Whatever an adapter does beyond these is named and refused here, before any work, rather than
dropped in silence.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec

from quantize.errors import MergeError

_PREFIX = "base_model.model."
_TENSOR = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
_MAGNITUDE = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_magnitude_vector(?:\.weight)?$")
_ROWS = re.compile(r"^base_model\.model\.(?P<module>.+)\.token_adapter\.trainable_tokens_delta$")
# Initialisations that also change the base weights, so that adding B @ A is not the whole story.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


class LoraPair(msgspec.Struct, frozen=True, kw_only=True):
    """Name the two tensors of one target and the factor before their product."""

    weight: str
    """Name of the base tensor they change."""
    a_name: str
    b_name: str
    scale: float
    magnitude_name: str | None = None
    """Of DoRA's row lengths, (rows,)."""


class RowChange(msgspec.Struct, frozen=True, kw_only=True):
    """Name the tensor that holds new rows of an embedding, and which rows they are."""

    name: str
    token_ids: tuple[int, ...]


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """Describe an adapter that is ready to be merged."""

    weights: Path
    pairs: dict[str, LoraPair]
    """By base tensor name, as all three."""
    replaced: dict[str, str] = {}
    """The adapter's tensor that stands in for the base's."""
    rows: dict[str, RowChange] = {}
    rank: int
    alpha: float

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the base tensors that change."""
        return (*self.pairs, *self.replaced, *self.rows)

    def beyond_lora(self) -> str | None:
        """Say what this adapter does that B @ A beside a base cannot, None for nothing."""
        if any(pair.magnitude_name for pair in self.pairs.values()):
            return "use_dora rescales each row as well"
        if self.replaced:
            return f"modules_to_save replaces {', '.join(self.replaced)}"
        return f"new embedding rows of {', '.join(self.rows)}" if self.rows else None


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's configuration and the names of its tensors.

    Raises:
        MergeError: when a file is missing or the adapter is of a kind that has no exact merge.
    """
    config = _config(folder / "adapter_config.json")
    _require_mergeable(folder, config)
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise MergeError(f"{folder} has no adapter_model.safetensors")
    names = _names(weights)
    rows, replaced = _rows(names, config), _replaced(names, config)
    known = {each.name for each in rows.values()} | set(replaced.values())
    pairs = _pairs(weights, [name for name in names if name not in known], config)
    promised = {
        "use_dora, but some layers have no lora_magnitude_vector": config.get("use_dora")
        and not all(pair.magnitude_name for pair in pairs.values()),
        "modules_to_save, but none of them is in the file": config.get("modules_to_save")
        and not replaced,
        "trainable_token_indices, but no rows are in the file": config.get(
            "trainable_token_indices"
        )
        and not rows,
    }
    for promise, is_broken in promised.items():
        if is_broken:
            raise MergeError(f"{weights} is not what its configuration says: {promise}")
    return Adapter(
        weights=weights,
        pairs=pairs,
        replaced=replaced,
        rows=rows,
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


def _require_mergeable(folder: Path, config: dict[str, Any]) -> None:
    start = str(config.get("init_lora_weights", "")).lower()
    reasons = {
        f"peft_type is {config['peft_type']}": config["peft_type"] != "LORA",
        "target_parameters change expert tensors": config.get("target_parameters"),
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
                "train LoRA, rsLoRA or DoRA, with or without modules_to_save"
            )


def _names(weights: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as tensors:
        return sorted(tensors.keys())


def _rows(names: list[str], config: dict[str, Any]) -> dict[str, RowChange]:
    """Find the trained tokens' rows; a list of indices without a module means the embedding."""
    indices = config.get("trainable_token_indices") or {}
    if isinstance(indices, list):
        indices = {"embed_tokens": indices}
    found = {}
    for name in names:
        match = _ROWS.match(name)
        leaf = match["module"].rpartition(".")[2] if match else ""
        if match and leaf in indices:
            change = RowChange(name=name, token_ids=tuple(indices[leaf]))
            found[f"{match['module']}.weight"] = change
    return found


def _replaced(names: list[str], config: dict[str, Any]) -> dict[str, str]:
    """Find the modules that were trained whole, by the ends of their names as PEFT does."""
    saved = tuple(config.get("modules_to_save") or ())
    found = {}
    for name in names:
        weight = name.removeprefix(_PREFIX)
        parts = weight.split(".")[:-1]
        modules = (".".join(parts[: count + 1]) for count in range(len(parts)))
        if saved and ".lora_" not in name and any(each.endswith(saved) for each in modules):
            found[weight] = name
    return found


def _pairs(weights: Path, names: list[str], config: dict[str, Any]) -> dict[str, LoraPair]:
    from safetensors import safe_open

    sides: dict[str, dict[str, str]] = {}
    ranks: dict[str, int] = {}
    magnitudes = {match["module"]: name for name in names if (match := _MAGNITUDE.match(name))}
    with safe_open(weights, framework="pt") as tensors:
        for name in names:
            if name in magnitudes.values():
                continue
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
            magnitude_name=magnitudes.get(module),
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
