"""The tensors of a source's 16-bit file, known before that file exists: names, rows and columns.

For a GGUF its own header says. For a Hugging Face folder the headers of its safetensors do, and
gguf-py's table of names, for the architectures whose weights the converter carries over one by one;
of the others nothing is known before the conversion. Reads no weights.
"""

import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quantize.errors import SourceError
from quantize.llama.ggml_types import by_name
from quantize.llama.gguf_header import GgufHeader, TensorEntry, read_header
from quantize.source import Source

_ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
}
"""GGUF architecture by `model_type`: those whose conversion renames weights and does no more."""
_NEEDED = {
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_size",
    "intermediate_size",
}
_SKIPPED = (".inv_freq",)
_UNUSED = {"gemma3": ("lm_head.weight",)}
_SUFFIXES = (".weight", ".bias")
_KEYS_BYTES = 2048
"""Metadata beside the vocabulary, about."""
_SKETCHED_ROWS = 2


def foreseen(source: Source) -> GgufHeader | None:
    """Return the head of the file that others will be made from, or None where it is not known.

    For a folder, sizes and offsets are estimates, a little too small; metadata is what a sketch of
    the file needs.

    Raises:
        SourceError: for weights whose header is not readable.
    """
    if source.kind == "gguf":
        return read_header(source.path)
    settings = json.loads((source.weights / "config.json").read_text(encoding="utf-8"))
    architecture = _ARCHITECTURES.get(settings.get("model_type", ""))
    if architecture is None or settings.get("quantization_config") or _NEEDED - settings.keys():
        return None
    held = {
        name: shape
        for path in sorted(source.weights.glob("*.safetensors"))
        for name, shape in _held(path).items()
        if not name.endswith(_SKIPPED) and name not in _UNUSED.get(architecture, ())
    }
    names = _names(architecture, int(settings["num_hidden_layers"]), held)
    if names is None:
        return None
    tokenizer = source.path / "tokenizer" if source.kind == "finetune_run" else source.path
    return _header(
        Path(f"{source.name}-f16.gguf"),
        {names[name]: shape for name, shape in held.items()},
        _metadata(architecture, settings),
        _vocabulary_bytes(tokenizer / "tokenizer.json") + _KEYS_BYTES,
    )


@contextmanager
def sketched(header: GgufHeader) -> Iterator[Path]:
    """Give a file of the same tensors to ask llama.cpp about: two rows of zeros in place of all.

    What a type does with a tensor depends on its name and its row length. A file that is there
    already is given as it is.
    """
    if header.path.is_file():
        yield header.path
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / header.path.name
        _write_sketch(path, header)
        yield path


def _held(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a safetensors file by name.

    Source: the format's description in the safetensors documentation.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            entries = json.loads(stream.read(min(length, path.stat().st_size)))
        entries.pop("__metadata__", None)
        return {name: tuple(entry["shape"]) for name, entry in entries.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise SourceError(f"{path} is no readable safetensors file; fetch it again") from error


def _names(architecture: str, num_layers: int, held: Mapping[str, Any]) -> dict[str, str] | None:
    """Return each weight's name in a GGUF, or None when one has none."""
    from gguf import MODEL_ARCH, get_tensor_name_map

    table = get_tensor_name_map(MODEL_ARCH[architecture.upper()], num_layers)
    found = {name: table.get_name(name, try_suffixes=_SUFFIXES) for name in held}
    known = {name: renamed for name, renamed in found.items() if renamed is not None}
    return known if len(known) == len(found) else None


def _header(
    path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: dict[str, Any], head_bytes: int
) -> GgufHeader:
    tensors, offset = [], 0
    for name, shape in shapes.items():
        kind = "f16" if len(shape) > 1 else "f32"
        stored = by_name(kind)
        assert stored is not None  # every ggml has them
        entry = TensorEntry(
            name=name,
            shape=tuple(reversed(shape)),
            type_name=kind,
            offset=offset,
            num_elements=math.prod(shape),
            num_bytes=math.prod(shape) * stored.block_bytes,
        )
        tensors.append(entry)
        offset += -(-entry.num_bytes // 32) * 32
    return GgufHeader(
        path=path,
        version=3,
        metadata=metadata,
        spans={},
        tensors=tuple(tensors),
        kv_end=head_bytes,
        info_end=head_bytes,
        data_offset=head_bytes,
        alignment=32,
        file_bytes=head_bytes + offset,
    )


def _metadata(architecture: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    heads = settings["num_attention_heads"]
    return {
        "general.architecture": architecture,
        f"{architecture}.block_count": settings["num_hidden_layers"],
        f"{architecture}.context_length": settings["max_position_embeddings"],
        f"{architecture}.embedding_length": settings["hidden_size"],
        f"{architecture}.feed_forward_length": settings["intermediate_size"],
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": settings.get("num_key_value_heads") or heads,
    }


def _vocabulary_bytes(path: Path) -> int:
    """Return what a BPE vocabulary takes in a GGUF, or 0 for another kind.

    A string is its length in 8 bytes and its text; a token has 4 more for its kind.
    """
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
    except (OSError, ValueError, KeyError):
        return 0
    if model.get("type") != "BPE":
        return 0
    pairs = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    tokens = sum(12 + len(token.encode()) for token in model["vocab"])
    return tokens + sum(8 + len(pair.encode()) for pair in pairs)


def _write_sketch(path: Path, header: GgufHeader) -> None:
    import numpy as np
    from gguf import GGUFWriter

    architecture = header.text("general.architecture")
    assert architecture is not None  # it is written above
    writer = GGUFWriter(path, architecture)
    for key, value in header.metadata.items():
        if key != "general.architecture":
            writer.add_uint32(key, value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(_SKETCHED_ROWS)
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(1)
    for tensor in header.tensors:
        *more, columns = tensor.shape[::-1]
        dtype = np.float16 if more else np.float32
        shape = (_SKETCHED_ROWS, columns) if more else (columns,)
        writer.add_tensor(tensor.name, np.zeros(shape, dtype=dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
