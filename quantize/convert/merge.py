"""Fold an adapter into 16-bit weights, one tensor at a time; knows nothing of GGUF.

Reads and writes safetensors shards directly, so memory holds one tensor, never the model. The sum
is made in float32 and rounded once to the 16-bit type.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from quantize.convert.adapter import Adapter, LoraPair, RowChange
from quantize.convert.shard_file import Entry, write_shard
from quantize.errors import MergeError

INDEX = "model.safetensors.index.json"
_HALVES = {"float16": "F16", "bfloat16": "BF16"}


class MergeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Say what was written."""

    dtype: str
    num_tensors: int
    num_target_tensors: int


def merge(
    base: Path,
    adapter: Adapter | None,
    target: Path,
    *,
    dtype: str = "auto",
    on_tensor: Callable[[int, int], None] | None = None,
) -> MergeCounts:
    """Write base + adapter as 16-bit shards to `target`, named as the base's shards are.

    Raises:
        MergeError: when a target has no tensor, shapes do not fit, weights are not finite or a
            value does not fit the type.
    """
    shards = shard_names(base)
    chosen = _chosen_dtype(base, dtype)
    targets = adapter.targets if adapter else ()
    _require_targets(base, shards, targets)
    total, done = sum(len(names) for names in shards.values()), 0

    def counted(shard: str) -> Iterator[tuple[str, Any]]:
        nonlocal done
        for name in shards[shard]:
            yield name, _merged_tensor(base / shard, name, adapter, chosen)
            done += 1
            if on_tensor is not None:
                on_tensor(done, total)

    for shard, names in shards.items():
        write_shard(target / shard, _entries(base / shard, names, chosen), counted(shard))
    _write_index(target, shards)
    return MergeCounts(dtype=chosen, num_tensors=total, num_target_tensors=len(targets))


def shard_names(folder: Path) -> dict[str, list[str]]:
    """Return each weight file of a folder and the tensors in it, in order."""
    from safetensors import SafetensorError, safe_open

    index = folder / INDEX
    if index.is_file():
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        files = [path.name for path in sorted(folder.glob("*.safetensors"))]
    if not files:
        raise MergeError(f"{folder} holds no .safetensors weights")
    names: dict[str, list[str]] = {}
    for file in files:
        try:
            with safe_open(folder / file, framework="pt") as tensors:
                names[file] = sorted(tensors.keys())
        except (SafetensorError, OSError) as error:
            raise MergeError(f"{folder / file} is damaged or missing: {error}") from error
    return names


def product(tensors: Any, pair: LoraPair, dtype: Any) -> Any:
    """Return scale x B @ A in the given type."""
    b_half = tensors.get_tensor(pair.b_name).to(dtype)
    return pair.scale * (b_half @ tensors.get_tensor(pair.a_name).to(dtype))


def read_tensor(file: Path, name: str) -> Any:
    """Return one tensor, mapped; with it go the pages that were read of the file."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as weights:
        return weights.get_tensor(name)


def _entries(shard: Path, names: Iterable[str], dtype: str) -> dict[str, Entry]:
    """Describe the merged tensors: those of the shard, floating ones in the chosen type."""
    from safetensors import safe_open

    entries = {}
    with safe_open(shard, framework="pt") as weights:
        for name in names:
            tensor = weights.get_tensor(name)
            kept = weights.get_slice(name).get_dtype()
            floating = tensor.is_floating_point()
            entries[name] = Entry(
                dtype=_HALVES[dtype] if floating else kept,
                shape=tuple(tensor.shape),
                num_bytes=tensor.numel() * (2 if floating else tensor.element_size()),
            )
    return entries


def _merged_tensor(shard: Path, name: str, adapter: Adapter | None, dtype: str) -> Any:
    import torch
    from safetensors import safe_open

    tensor = read_tensor(shard, name)
    _require_finite(shard, name, tensor)
    if adapter is not None and name in adapter.targets:
        with safe_open(adapter.weights, framework="pt") as tensors:
            tensor = _changed(tensors, adapter, name, tensor)
        _require_finite(adapter.weights, name, tensor)
    rounded = tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
    if not bool(torch.isfinite(rounded).all()):
        raise MergeError(f"{name} has values beyond the range of {dtype}; use bfloat16")
    return rounded


def _changed(tensors: Any, adapter: Adapter, name: str, tensor: Any) -> Any:
    """Return a weight as the adapter wants it, in float32."""
    import torch

    if name in adapter.replaced:
        whole = tensors.get_tensor(adapter.replaced[name]).to(torch.float32)
        _require_shape(name, whole, tensor)
        return whole
    if name in adapter.rows:
        return _with_rows(tensors, adapter.rows[name], name, tensor.to(torch.float32))
    pair = adapter.pairs[name]
    delta = product(tensors, pair, torch.float32)
    _require_shape(name, delta, tensor)
    summed = tensor.to(torch.float32) + delta
    if pair.magnitude_name is None:
        return summed
    magnitude = tensors.get_tensor(pair.magnitude_name).to(torch.float32)
    return summed * (magnitude / summed.norm(dim=1)).unsqueeze(1)


def _with_rows(tensors: Any, change: RowChange, name: str, tensor: Any) -> Any:
    rows = tensors.get_tensor(change.name).to(tensor.dtype)
    wanted = (len(change.token_ids), tensor.shape[1])
    if tuple(rows.shape) != wanted or max(change.token_ids) >= tensor.shape[0]:
        raise MergeError(
            f"the adapter holds rows of shape {tuple(rows.shape)} for tokens up to "
            f"{max(change.token_ids)}, the base's {name} is {tuple(tensor.shape)}: it was trained "
            "on another base"
        )
    tensor[list(change.token_ids)] = rows
    return tensor


def _require_shape(name: str, change: Any, tensor: Any) -> None:
    if change.shape != tensor.shape:
        raise MergeError(
            f"the adapter's change for {name} has shape {tuple(change.shape)}, the base "
            f"tensor {tuple(tensor.shape)}: it was trained on another base"
        )


def _require_finite(file: Path, name: str, tensor: Any) -> None:
    import torch

    if not bool(torch.isfinite(tensor).all()):
        raise MergeError(f"{file}: tensor {name} holds NaN or infinity")


def _require_targets(base: Path, shards: dict[str, list[str]], targets: Iterable[str]) -> None:
    present = {name for names in shards.values() for name in names}
    for name in targets:
        if name == "lm_head.weight" and name not in present:
            raise MergeError(
                "the adapter changes lm_head, which this base shares with its embedding; a merge "
                "would change the embedding too. Leave lm_head out: embed_tokens means both"
            )
        if name not in present:
            raise MergeError(f"the adapter changes {name}, which the base {base} does not have")


def _chosen_dtype(base: Path, wanted: str) -> str:
    settings = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if quantization := settings.get("quantization_config"):
        raise MergeError(
            f"the base {base} is quantized itself ({quantization.get('quant_method')}); "
            "merging needs its 16-bit weights"
        )
    if wanted != "auto":
        return wanted
    stored = settings.get("dtype") or settings.get("torch_dtype") or "float32"
    return stored if stored in _HALVES else "float16"


def _write_index(target: Path, shards: dict[str, list[str]]) -> None:
    if len(shards) == 1:
        return
    weight_map = {name: shard for shard, names in shards.items() for name in names}
    size = sum((target / shard).stat().st_size for shard in shards)
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (target / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")
