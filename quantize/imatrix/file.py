"""An importance matrix: mean squared activation per input column of each weight; read and written.

The file is llama.cpp's own GGUF kind, so its tools read ours and this reads theirs. Each weight has
two tensors, `<name>.in_sum2` of (matrices, columns) and `<name>.counts` of (matrices, 1); dense
weights are one matrix, a layer's experts are one each.

Source: save_imatrix in llama.cpp's tools/imatrix/imatrix.cpp.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from quantize.errors import GgufError, ImatrixError
from quantize.llama.ggml_tensor import Float32
from quantize.llama.gguf_header import GgufHeader, TensorEntry, read_header

_SUMS, _COUNTS = ".in_sum2", ".counts"
_BLOCK = re.compile(r"blk\.\d+\.")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one weight's sums of squares, (matrices, columns), and counts, (matrices,)."""

    sums: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]

    def means(self) -> Float32:
        """Return mean squares, (matrices, columns); 1 where nothing was seen, as llama.cpp does."""
        counts = self.counts[:, None]
        means = np.where(counts > 0, self.sums / np.maximum(counts, 1), 1.0)
        return np.ascontiguousarray(means, dtype=np.float32)


class Imatrix(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the entries by weight name, and what the file says of itself."""

    entries: dict[str, Entry]
    datasets: tuple[str, ...] = ()
    num_chunks: int = 0
    chunk_tokens: int = 0

    def means(self) -> dict[str, Float32]:
        """Return every weight's mean squares."""
        return {name: entry.means() for name, entry in self.entries.items()}


def write(path: Path, matrix: Imatrix, keys: Mapping[str, str | int]) -> None:
    """Write an importance matrix with further metadata; the same content gives the same bytes."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", list(matrix.datasets))
    writer.add_uint32("imatrix.chunk_count", matrix.num_chunks)
    writer.add_uint32("imatrix.chunk_size", matrix.chunk_tokens)
    for key, value in keys.items():
        if isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)
    for name, entry in sorted(matrix.entries.items()):
        writer.add_tensor(name + _SUMS, entry.sums.astype(np.float32))
        writer.add_tensor(name + _COUNTS, entry.counts.astype(np.float32)[:, None])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path: Path) -> Imatrix:
    """Read an importance matrix in GGUF form.

    Raises:
        ImatrixError: when the file is another kind of file, or damaged.
    """
    try:
        header = read_header(path)
    except GgufError as error:
        raise ImatrixError(
            f"{error}. An importance matrix in GGUF form is needed; llama-imatrix writes one with "
            "--output-format gguf"
        ) from error
    held = {tensor.name: tensor for tensor in header.tensors}
    names = [name.removesuffix(_SUMS) for name in held if name.endswith(_SUMS)]
    if not names or header.text("general.type") not in ("imatrix", None):
        raise ImatrixError(
            f"{path} holds no importance matrix but a {header.text('general.architecture')} file"
        )
    return Imatrix(
        entries={name: _entry(header, held, name) for name in names},
        num_chunks=int(header.metadata.get("imatrix.chunk_count", 0)),
        chunk_tokens=int(header.metadata.get("imatrix.chunk_size", 0)),
    )


def require_fit(path: Path, matrix: Imatrix, model: GgufHeader) -> None:
    """Refuse an importance matrix that was collected on a model of another shape.

    Raises:
        ImatrixError: naming the first tensor that differs, with both shapes.
    """
    weights = {tensor.name: tensor for tensor in model.tensors}
    for name, entry in sorted(matrix.entries.items()):
        weight = weights.get(name)
        found = " x ".join(map(str, entry.sums.shape[::-1]))
        if weight is None:
            raise ImatrixError(
                f"{path} was made for another model: it has {name} ({found}), which "
                f"{model.path.name} lacks"
            )
        if entry.sums.size != columns(weight):
            held = " x ".join(map(str, weight.shape))
            raise ImatrixError(
                f"{path} was made for another model: {name} has {entry.sums.size} columns there, "
                f"{model.path.name} needs {columns(weight)} (its shape is {held})"
            )
    missing = _blocks(weights) - _blocks(matrix.entries)
    if missing:
        raise ImatrixError(
            f"{path} was made for another model: it says nothing of {min(missing)}*, which "
            f"{model.path.name} has"
        )


def columns(weight: TensorEntry) -> int:
    """Return how many values a weight's entry holds: a row for each of its matrices."""
    return weight.shape[0] * (weight.shape[2] if len(weight.shape) > 2 else 1)


def _blocks(names: Iterable[str]) -> set[str]:
    return {found[0] for name in names if (found := _BLOCK.match(name))}


def _entry(header: GgufHeader, held: Mapping[str, TensorEntry], name: str) -> Entry:
    if name + _COUNTS not in held:
        raise ImatrixError(f"{header.path} is damaged: {name} has sums but no counts")
    counts = _values(header, held[name + _COUNTS]).reshape(-1)
    sums = _values(header, held[name + _SUMS]).astype(np.float64)
    if not np.isfinite(sums).all() or sums.size % max(counts.size, 1):
        raise ImatrixError(f"{header.path} is damaged: the values of {name} are not usable")
    return Entry(sums=sums.reshape(counts.size, -1), counts=np.rint(counts).astype(np.int64))


def _values(header: GgufHeader, tensor: TensorEntry) -> Float32:
    if tensor.type_name != "f32":
        raise ImatrixError(f"{header.path} is damaged: {tensor.name} is {tensor.type_name}")
    return np.fromfile(
        header.path,
        dtype="<f4",
        count=tensor.num_elements,
        offset=header.data_offset + tensor.offset,
    )
