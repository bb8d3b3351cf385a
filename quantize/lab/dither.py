"""A development command: a quantized file into 16-bit weights that sit on no quantizer's grid.

    python -m quantize.lab.dither SmolLM2-135M-Instruct.Q4_1.gguf dithered-f16.gguf

Weights that came out of a quantized file lie on its grid, where requantizing is nearly free and any
comparison of types an artefact. Moving each weight by a random amount within its own cell gives a
stand-in for a checkpoint trained in 16 bits: as close to the file as the original was.
"""

import argparse
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quantize.errors import QuantizeError, SourceError
from quantize.llama import ggml_types
from quantize.llama.ggml_codec import decode
from quantize.llama.ggml_tensor import Float32
from quantize.llama.gguf_header import MAGIC, GgufHeader, TensorEntry, read_header
from quantize.llama.metadata import encoded_key

_F32, _F16, _ALIGNMENT = 0, 1, 32
_SCALE_FIRST = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0")
"""Types whose blocks begin with the width of a cell, as a 16-bit float."""
_REPLACED = ("general.file_type", "general.quantization_version", "general.alignment")


def dither(source: Path, target: Path, *, seed: int = 0) -> None:
    """Write a quantized GGUF as f16, each weight moved at random within its cell.

    Raises:
        SourceError: for a tensor of a type whose cells are not known here.
    """
    header = read_header(source)
    random = np.random.default_rng(seed)
    kept = [span for key, span in header.spans.items() if key not in _REPLACED]
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(MAGIC + struct.pack("<IQQ", 3, len(header.tensors), len(kept) + 1))
        for start, end in kept:
            reader.seek(start)
            writer.write(reader.read(end - start))
        writer.write(encoded_key("general.file_type", 1))
        writer.write(_infos(header))
        for tensor in header.tensors:
            writer.write(b"\0" * (-writer.tell() % _ALIGNMENT))
            reader.seek(header.data_offset + tensor.offset)
            raw = np.frombuffer(reader.read(tensor.num_bytes), dtype=np.uint8)
            values = _dithered(tensor, raw, random)
            writer.write((values if _is_plain(tensor) else values.astype(np.float16)).tobytes())


def _dithered(
    tensor: TensorEntry, raw: npt.NDArray[np.uint8], random: np.random.Generator
) -> Float32:
    values = decode(tensor.type_name, raw, tensor.shape[0])
    stored = ggml_types.by_name(tensor.type_name)
    if _is_plain(tensor) or tensor.type_name == "f16":
        return values
    if stored is None or tensor.type_name not in _SCALE_FIRST:
        raise SourceError(
            f"{tensor.name} is {tensor.type_name}; cells are known for {', '.join(_SCALE_FIRST)}"
        )
    scales = raw.reshape(-1, stored.block_bytes)[:, :2].copy().view(np.float16).astype(np.float32)
    cells = values.reshape(-1, stored.block_length)
    moves = random.uniform(-0.5, 0.5, cells.shape).astype(np.float32)
    moved: Float32 = (cells + moves * np.abs(scales)).reshape(values.shape)
    return moved


def _is_plain(tensor: TensorEntry) -> bool:
    return tensor.type_name == "f32"


def _infos(header: GgufHeader) -> bytes:
    """Return the tensor list for f32 and f16 tensors in the same order."""
    parts, offset = [], 0
    for tensor in header.tensors:
        kind, width = (_F32, 4) if _is_plain(tensor) else (_F16, 2)
        name = tensor.name.encode()
        parts.append(struct.pack("<Q", len(name)) + name + struct.pack("<I", len(tensor.shape)))
        parts.append(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape))
        parts.append(struct.pack("<IQ", kind, offset))
        offset += -(-tensor.num_elements * width // _ALIGNMENT) * _ALIGNMENT
    return b"".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m quantize.lab.dither", description=__doc__)
    parser.add_argument("source", type=Path, help="a quantized GGUF")
    parser.add_argument("target", type=Path, help="the f16 GGUF to write")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        dither(options.source, options.target, seed=options.seed)
    except QuantizeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
