"""A base with a longer vocabulary: rows for new tokens at the end of its embedding.

A new row starts as the mean of the rows of the words in the token's name: near what the model
knows, and no two alike. Bases with spare rows stay as they are. Knows no training.
"""

import re
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from finetune import base_model
from finetune.base_model import BaseModel
from finetune.errors import BaseModelError
from finetune.fingerprint import sha256_json
from finetune.home import cache_folder

RECIPE = 1  # of the cached folder; higher whenever its content changes
WEIGHT_NAMES = ("embed_tokens.weight", "lm_head.weight")


def grow(base: BaseModel, tokenizer: Any, new_ids: Collection[int]) -> BaseModel:
    """Return a base whose embedding has a row for every new token.

    Raises:
        BaseModelError: the vocabulary's size is not in config.json, where it is to be changed.
    """
    settings = msgspec.json.decode((base.weights / "config.json").read_bytes())
    if "vocab_size" not in settings:
        raise BaseModelError(
            f"{base.weights / 'config.json'} names no vocab_size, so no tokens can be added to "
            "this base; set data.fim.rate to 0, or choose a base with fill-in-the-middle tokens"
        )
    if max(new_ids, default=0) < settings["vocab_size"]:
        return base
    added = range(settings["vocab_size"], max(new_ids) + 1)
    names = [tokenizer.convert_ids_to_tokens(number) for number in added]
    key = sha256_json([base.source.sha256, names, RECIPE])
    folder = cache_folder("bases", f"grown-{key[:16]}")
    if not (folder / "config.json").is_file():
        _make(folder, base.weights, settings, [_pieces(tokenizer, name) for name in names])
    return base_model.as_copy(base, folder)


def _pieces(tokenizer: Any, name: str) -> list[int]:
    words = " ".join(re.findall(r"[^\W_]+", name))
    ids: list[int] = tokenizer(words, add_special_tokens=False)["input_ids"]
    return ids


def _make(target: Path, weights: Path, settings: dict[str, Any], new: list[list[int]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, suffix=".partial"))
    try:
        for path in sorted(weights.iterdir()):
            if path.suffix == ".safetensors":
                _grow_shard(path, scratch / path.name, settings["vocab_size"], new)
            elif path.is_file():
                shutil.copyfile(path, scratch / path.name)
        settings = settings | {"vocab_size": settings["vocab_size"] + len(new)}
        content = msgspec.json.format(msgspec.json.encode(settings), indent=2)
        (scratch / "config.json").write_bytes(content)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _grow_shard(source: Path, target: Path, num_rows: int, new: list[list[int]]) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(source)
    for name, tensor in tensors.items():
        if name.endswith(WEIGHT_NAMES) and tensor.shape[0] == num_rows:
            rows = [tensor[ids].float().mean(dim=0).to(tensor.dtype) for ids in new]
            tensors[name] = torch.cat([tensor, torch.stack(rows)]).contiguous()
    save_file(tensors, target, metadata={"format": "pt"})
