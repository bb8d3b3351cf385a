"""What a loaded model says of itself, as plain data.

Knows neither HTTP nor how the figures are used; reads only the model handle it is given.
"""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, Any

import msgspec

from serve.engine import native
from serve.engine.memory import KvShape
from serve.engine.tuning import Tuning  # noqa: TC001  # msgspec reads the field types

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve.engine.vocabulary import Vocabulary


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model as it is served. `context_length` is what one sequence may take here.

    `size_bytes` is that of the weights. `fim_*` ids are None where the model has no such token.
    `n_slots` counts all seats, those kept for FIM included. `file_type` is llama.cpp's number of
    the quantization, `description` its name for architecture, size and type.
    """

    path: str
    name: str
    architecture: str
    description: str
    file_type: int | None
    context_length: int
    n_ctx_train: int
    n_cells: int
    n_slots: int
    kv_type: str
    n_vocab: int
    n_embd: int
    n_params: int
    size_bytes: int
    chat_template: str | None
    metadata: dict[str, str]
    bos_token: str
    eos_token: str
    eot_token: str
    bos_token_id: int | None
    eos_token_id: int | None
    eot_token_id: int | None
    eog_token_ids: frozenset[int]
    fim_pre_token_id: int | None
    fim_suf_token_id: int | None
    fim_mid_token_id: int | None
    fim_pad_token_id: int | None
    fim_rep_token_id: int | None
    fim_sep_token_id: int | None
    add_bos: bool
    threads: int
    system_info: str
    runtime: str
    tuning: Tuning | None = None

    def begins_with_bos(self, token_ids: list[int]) -> bool:
        """Say whether a tokenized, rendered prompt already holds the BOS that would be added."""
        return bool(token_ids) and token_ids[0] == self.bos_token_id


def read_metadata(model: Any) -> dict[str, str]:
    """Return the scalar GGUF metadata. Source: llama.h `llama_model_meta_*_by_index`."""
    lib = native.library()
    keys, values = lib.llama_model_meta_key_by_index, lib.llama_model_meta_val_str_by_index
    return {
        _string(functools.partial(keys, model, index)): _string(
            functools.partial(values, model, index)
        )
        for index in range(lib.llama_model_meta_count(model))
    }


def _string(read: Callable[[Any, int], int]) -> str:
    """Call a llama string reader, with more room when it asks for it."""
    room = 256
    while True:
        buffer = ctypes.create_string_buffer(room)
        count = read(buffer, room)
        if count < room:
            return buffer.raw[: max(count, 0)].decode("utf-8", "replace")
        room = count + 1


def read_kv_shape(model: Any, metadata: dict[str, str]) -> KvShape:
    """Return what memory planning needs; call it only on a model loaded with its weights."""
    lib = native.library()
    arch = metadata.get("general.architecture", "")
    n_head = max(int(lib.llama_model_n_head(model)), 1)
    head_length = int(lib.llama_model_n_embd(model)) // n_head
    return KvShape(
        n_layer=int(lib.llama_model_n_layer(model)),
        n_head_kv=int(lib.llama_model_n_head_kv(model)),
        key_length=int(metadata.get(f"{arch}.attention.key_length", head_length)),
        value_length=int(metadata.get(f"{arch}.attention.value_length", head_length)),
        n_ctx_train=int(lib.llama_model_n_ctx_train(model)),
        model_bytes=int(lib.llama_model_size(model)),
    )


def model_figures(model: Any, path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """Return the fields of `ModelInfo` that come from the weights file."""
    lib = native.library()
    template = lib.llama_model_chat_template(model, None)
    file_type = metadata.get("general.file_type")
    return {
        "path": str(path),
        "name": metadata.get("general.name") or path.stem,
        "architecture": metadata.get("general.architecture", ""),
        "description": _string(functools.partial(lib.llama_model_desc, model)),
        "file_type": int(file_type) if file_type is not None else None,
        "n_embd": int(lib.llama_model_n_embd(model)),
        "n_params": int(lib.llama_model_n_params(model)),
        "chat_template": template.decode("utf-8", "replace") if template else None,
        "metadata": metadata,
        "system_info": lib.llama_print_system_info().decode("utf-8", "replace").strip(),
        "runtime": native.version(),
    }


def vocabulary_figures(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the fields of `ModelInfo` that come from the vocabulary."""
    figures: dict[str, Any] = {"n_vocab": vocabulary.size, "add_bos": vocabulary.add_bos}
    for name in ("bos", "eos", "eot"):
        token_id = vocabulary.special(name)
        figures[f"{name}_token_id"] = token_id
        text = b"" if token_id is None else vocabulary.token_bytes(token_id)
        figures[f"{name}_token"] = text.decode("utf-8", "replace")
    for name in ("pre", "suf", "mid", "pad", "rep", "sep"):
        figures[f"fim_{name}_token_id"] = vocabulary.special(f"fim_{name}")
    figures["eog_token_ids"] = vocabulary.end_of_generation_ids()
    return figures
