"""Weights of a GGUF read a slab of rows at a time, so that no large tensor is held whole."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from quantize.llama.ggml_codec import decode, row_bytes
from quantize.llama.ggml_tensor import Float32
from quantize.llama.gguf_header import GgufHeader, TensorEntry

_SLAB_ELEMENTS = 4 << 20


class Slab(msgspec.Struct, frozen=True, kw_only=True):
    """Hold rows of one matrix; `start` counts rows through all of a tensor's matrices."""

    start: int
    matrix: int
    rows: Float32


class Weight(msgspec.Struct, frozen=True, kw_only=True):
    """Locate one tensor and read it."""

    path: Path
    tensor: TensorEntry
    data_offset: int

    @property
    def num_columns(self) -> int:
        """Return the row length."""
        return self.tensor.shape[0]

    @property
    def num_rows(self) -> int:
        """Return the rows of all its matrices."""
        return self.tensor.num_elements // self.tensor.shape[0]

    @property
    def rows_per_matrix(self) -> int:
        """Return the rows of one matrix; experts have several matrices."""
        return self.tensor.shape[1] if len(self.tensor.shape) > 1 else 1

    def read(self, start: int, count: int) -> Float32:
        """Return rows as float32."""
        width = row_bytes(self.tensor.type_name, self.num_columns)
        assert width is not None  # it lies in a file
        raw = np.fromfile(
            self.path,
            dtype=np.uint8,
            count=count * width,
            offset=self.data_offset + self.tensor.offset + start * width,
        )
        return decode(self.tensor.type_name, raw, self.num_columns)

    def slabs(self) -> Iterator[Slab]:
        """Yield all rows in order; a slab stays within one matrix."""
        at_once = max(1, _SLAB_ELEMENTS // self.num_columns)
        for first in range(0, self.num_rows, self.rows_per_matrix):
            for start in range(first, first + self.rows_per_matrix, at_once):
                count = min(at_once, first + self.rows_per_matrix - start)
                matrix = first // self.rows_per_matrix
                yield Slab(start=start, matrix=matrix, rows=self.read(start, count))

    def sample(self, num_elements: int) -> Iterator[Slab]:
        """Yield about `num_elements` in runs of rows spread evenly over the tensor."""
        run, wanted = 4, max(1, num_elements // self.num_columns // 4)
        if wanted * run >= self.num_rows:
            yield from self.slabs()
            return
        for index in range(wanted):
            start = index * self.num_rows // wanted
            matrix = start // self.rows_per_matrix
            count = min(run, (matrix + 1) * self.rows_per_matrix - start)
            yield Slab(start=start, matrix=matrix, rows=self.read(start, count))


def weights(header: GgufHeader) -> dict[str, Weight]:
    """Return the weights of a file by name."""
    return {
        tensor.name: Weight(path=header.path, tensor=tensor, data_offset=header.data_offset)
        for tensor in header.tensors
    }
