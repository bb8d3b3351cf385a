"""What a model will take in memory and how it will be served, said before it is loaded.

Knows the file's header and the plan of a context; loads nothing.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from serve.engine import machine
from serve.engine.context import default_slots
from serve.engine.gguf_header import Header, read_header
from serve.engine.memory import RESERVE_BYTES, KvShape, plan_context
from serve.engine.model_info import ModelInfo

if TYPE_CHECKING:
    from serve.engine.config import EngineConfig

CACHE_SHARE = 16  # of the budget, the part that one model's prefix cache may take
MOST_CACHE_BYTES = 512 * 2**20
EMBEDDING_LENGTH = 2048  # an input is computed in one piece, and its buffers grow with it


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """`config` is what to load with, so that it takes `num_bytes`; `info` what the file tells.

    `pooling_type` is 0 for a model that generates text.
    """

    num_bytes: int
    config: EngineConfig
    info: ModelInfo
    pooling_type: int


def size(config: EngineConfig, budget_bytes: int | None) -> Sized:
    """Plan a model within a budget, if any: file, adapters, cells, prefix cache and buffers.

    What the file maps is counted once: pages of it that the system can take back are not needed.

    Raises: ModelLoadError, ContextTooLargeError.
    """
    path = Path(config.model)
    header = header_of(path)
    if header.pooling_type:
        config = _for_embedding(config, header)
    shape = _shape(header, _file_bytes(path))
    slots = config.slots or default_slots()
    plan = plan_context(config, shape, slots, budget_bytes)
    adapters = sum(_file_bytes(Path(adapter.file)) for adapter in config.adapters)
    taken = shape.model_bytes + adapters + plan.kv_bytes + RESERVE_BYTES
    cache_bytes = config.cache_memory_bytes
    if cache_bytes is None:
        cache_bytes = _cache_bytes(budget_bytes, taken)
    planned = msgspec.structs.replace(
        config,
        context_length=plan.context_length,
        kv_cells=plan.n_cells,
        cache_memory_bytes=cache_bytes,
    )
    return Sized(
        num_bytes=taken + cache_bytes,
        config=planned,
        info=_info(planned, header, shape, slots + config.fim_slots),
        pooling_type=header.pooling_type,
    )


def _cache_bytes(budget_bytes: int | None, taken_bytes: int) -> int:
    if budget_bytes is None:
        return MOST_CACHE_BYTES
    left = max(budget_bytes - taken_bytes, 0)
    return min(left, budget_bytes // CACHE_SHARE, MOST_CACHE_BYTES)


def _for_embedding(config: EngineConfig, header: Header) -> EngineConfig:
    """Return what an embedding model is served with: one context, and no cache of prefixes."""
    trained = int(header.of_architecture("context_length", 0)) or EMBEDDING_LENGTH
    length = config.context_length or EMBEDDING_LENGTH
    return msgspec.structs.replace(
        config,
        context_length=min(length, trained),
        kv_cells=None,
        slots=1,
        fim_slots=0,
        cache_memory_bytes=0,
        cache_folder=None,
    )


def header_of(path: Path) -> Header:
    """Return the header of a file, read once for as long as the file does not change.

    Raises: ModelLoadError.
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0
    return _header(path, changed)


@functools.lru_cache(maxsize=256)
def _header(path: Path, _changed: int) -> Header:
    return read_header(path)


def _file_bytes(path: Path) -> int:
    """Return the bytes of a file, of all parts when it is the first of a split one."""
    match = re.fullmatch(r"(.+)-00001-of-(\d{5})\.gguf", path.name)
    paths = [path]
    if match:
        paths = list(path.parent.glob(f"{match[1]}-?????-of-{match[2]}.gguf"))
    return sum(each.stat().st_size for each in paths if each.is_file())


def _shape(header: Header, num_bytes: int) -> KvShape:
    n_head = max(int(header.of_architecture("attention.head_count", 1)), 1)
    head_length = int(header.of_architecture("embedding_length", 0)) // n_head
    return KvShape(
        n_layer=int(header.of_architecture("block_count", 0)),
        n_head_kv=int(header.of_architecture("attention.head_count_kv", n_head)),
        key_length=int(header.of_architecture("attention.key_length", head_length)),
        value_length=int(header.of_architecture("attention.value_length", head_length)),
        n_ctx_train=int(header.of_architecture("context_length", 0)) or 1,
        model_bytes=num_bytes,
    )


def _info(config: EngineConfig, header: Header, shape: KvShape, n_slots: int) -> ModelInfo:
    """Return what is known of a model that is not loaded: no token's text, no runtime's words."""
    metadata = {key: _text(value) for key, value in header.metadata.items()}
    file_type = header.metadata.get("general.file_type")
    ids: dict[str, Any] = {
        f"{name}_token_id": header.metadata.get(f"tokenizer.ggml.{name}_token_id")
        for name in ("bos", "eos", "eot")
    }
    for name in ("pre", "suf", "mid", "pad", "rep", "sep"):
        known = header.metadata.get(f"tokenizer.ggml.fim_{name}_token_id")
        by_text = -1 if header.has_fim and name in {"pre", "suf", "mid"} else None
        ids[f"fim_{name}_token_id"] = by_text if known is None else known
    return ModelInfo(
        path=config.model,
        name=metadata.get("general.name") or Path(config.model).stem,
        architecture=header.architecture,
        description=f"{header.architecture} {metadata.get('general.size_label', '')}".strip(),
        file_type=file_type if isinstance(file_type, int) else None,
        context_length=config.context_length or shape.n_ctx_train,
        n_ctx_train=shape.n_ctx_train,
        n_cells=config.kv_cells or 0,
        n_slots=n_slots,
        kv_type=config.kv_type,
        n_vocab=header.n_vocab,
        n_embd=int(header.of_architecture("embedding_length", 0)),
        n_params=header.n_params,
        size_bytes=shape.model_bytes,
        chat_template=header.metadata.get("tokenizer.chat_template"),
        metadata=metadata,
        bos_token="",
        eos_token="",
        eot_token="",
        eog_token_ids=frozenset(),
        add_bos=bool(header.metadata.get("tokenizer.ggml.add_bos_token", False)),
        threads=config.threads or machine.num_cores(),
        system_info="",
        runtime="",
        **ids,
    )


def _text(value: Any) -> str:
    """Return a value as llama.cpp spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
