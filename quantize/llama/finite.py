"""Are all numbers of an unquantized GGUF numbers? Reads bits, streams, names the tensor.

A value beyond float16 becomes infinite when a bfloat16 model is converted, so this is asked of the
file that everything else is made from, not only of what it came from.
"""

from typing import Any

import numpy as np

from quantize.errors import SourceError
from quantize.llama.gguf_header import GgufHeader, TensorEntry

_EXPONENTS: dict[str, tuple[Any, int]] = {
    "f16": (np.uint16, 0x7C00),
    "bf16": (np.uint16, 0x7F80),
    "f32": (np.uint32, 0x7F800000),
}
"""The bits that are all set in NaN and infinity, and in nothing else."""
_CHUNK_BYTES = 16 << 20


def require_finite(header: GgufHeader) -> None:
    """Check every tensor that is not quantized.

    Raises:
        SourceError: naming the first tensor with NaN or infinity, and how many.
    """
    for tensor in header.tensors:
        if tensor.type_name in _EXPONENTS and (count := _num_not_finite(header, tensor)):
            raise SourceError(
                f"{header.path.name}: tensor {tensor.name} holds {count:,} values that are NaN or "
                "infinite; train again, or convert from weights within the range of float16"
            )


def _num_not_finite(header: GgufHeader, tensor: TensorEntry) -> int:
    kind, exponent = _EXPONENTS[tensor.type_name]
    start, count = header.data_offset + tensor.offset, 0
    for place in range(0, tensor.num_bytes, _CHUNK_BYTES):
        size = min(_CHUNK_BYTES, tensor.num_bytes - place)
        items = size // np.dtype(kind).itemsize
        bits = np.fromfile(header.path, dtype=kind, count=items, offset=start + place)
        count += int(np.count_nonzero((bits & exponent) == exponent))
    return count
