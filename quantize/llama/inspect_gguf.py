"""What a GGUF really holds: types by share of parameters, bits per weight, KV-cache size.

Reads headers only. The name of a file promises a type; small or odd-shaped tensors may hold
another, and this is where that becomes visible.
"""

from collections import Counter
from pathlib import Path

import msgspec

from quantize.errors import GgufError
from quantize.llama.gguf_header import GgufHeader, read_header

_F16_BYTES = 2


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one file."""

    file_bytes: int
    num_parameters: int
    bits_per_weight: float
    """Tensor bits, including scales, over parameters."""
    type_shares: dict[str, float]
    """Share of the parameters held in each tensor type, largest first."""


def contents(path: Path) -> Contents:
    """Describe a file from its header."""
    header = read_header(path)
    parameters: Counter[str] = Counter()
    for tensor in header.tensors:
        parameters[tensor.type_name] += tensor.num_elements
    total = parameters.total()
    tensor_bytes = sum(tensor.num_bytes for tensor in header.tensors)
    return Contents(
        file_bytes=header.file_bytes,
        num_parameters=total,
        bits_per_weight=tensor_bytes * 8 / total,
        type_shares={name: count / total for name, count in parameters.most_common()},
    )


def main_type(header: GgufHeader) -> str:
    """Return the tensor type that holds most parameters."""
    parameters: Counter[str] = Counter()
    for tensor in header.tensors:
        parameters[tensor.type_name] += tensor.num_elements
    return parameters.most_common(1)[0][0]


def kv_cache_bytes(header: GgufHeader, n_ctx: int) -> int:
    """Return the bytes of an f16 KV cache for a context.

    An upper bound for sliding-window models: every layer is counted at the full context.

    Raises:
        GgufError: when the header does not describe its attention.
    """
    num_layers = header.architecture_value("block_count")
    num_heads = header.architecture_value("attention.head_count")
    width = header.architecture_value("embedding_length")
    if not isinstance(num_layers, int) or not isinstance(width, int) or num_heads is None:
        raise GgufError(f"{header.path} does not say how many layers and heads it has")
    heads = _per_layer(
        header.architecture_value("attention.head_count_kv") or num_heads, num_layers
    )
    default_length = width // max(_per_layer(num_heads, num_layers))
    key_length = header.architecture_value("attention.key_length") or default_length
    value_length = header.architecture_value("attention.value_length") or default_length
    return sum(heads) * (key_length + value_length) * _F16_BYTES * n_ctx


def _per_layer(value: int | list[int], num_layers: int) -> list[int]:
    return value if isinstance(value, list) else [value] * num_layers
