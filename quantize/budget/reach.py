"""Which sizes a model's file can have at all, from its tensors' shapes; reads no weights."""

from collections.abc import Container, Sequence
from pathlib import Path

from quantize.budget.allocation import padded
from quantize.budget.sensitivity import CANDIDATES, offered, require_types
from quantize.config import BudgetConfig
from quantize.errors import BudgetError
from quantize.llama.gguf_header import GgufHeader
from quantize.llama.quant_types import table
from quantize.llama.quantizer import TypeChoice, planned

_HEADER_SLACK_BYTES = 2048
"""Room for the metadata that a quantized file has beyond its source's."""


def target_bytes(config: BudgetConfig, header: GgufHeader, size: int | None) -> int:
    """Return the largest file allowed: `size`, or what `target_bpw` comes to for this model."""
    if size is not None:
        return size
    tensors = sum(tensor.num_elements for tensor in header.tensors) * config.target_bpw / 8
    return header.data_offset + _HEADER_SLACK_BYTES + int(tensors)


def quantizable(model: Path) -> list[str]:
    """Return the tensors llama.cpp would quantize, asked with the type of smallest blocks."""
    plain = planned(model, TypeChoice(quant_type=table()["q8_0"])).types
    return [name for name, kind in plain.items() if kind == "q8_0"]


def fixed_bytes(header: GgufHeader, chosen: Container[str]) -> int:
    """Return what a file takes beside the tensors that a type is chosen for."""
    rest = sum(padded(tensor.num_bytes) for tensor in header.tensors if tensor.name not in chosen)
    return header.data_offset + _HEADER_SLACK_BYTES + rest


def candidates(config: BudgetConfig, name: str) -> tuple[str, ...]:
    """Return the types that a tensor may take under a budget."""
    named = {"token_embd.weight": config.embedding_type, "output.weight": config.output_type}
    only = [named[name]] if named.get(name) else config.types
    return require_types(only) or CANDIDATES


def require_possible(
    config: BudgetConfig,
    header: GgufHeader,
    names: Sequence[str],
    wanted_bytes: int,
    *,
    has_imatrix: bool,
) -> None:
    """Refuse a budget no choice of types can meet, as far as shapes tell.

    Raises:
        BudgetError: with the smallest file there can be.
    """
    smallest = fixed_bytes(header, set(names))
    for tensor in (tensor for tensor in header.tensors if tensor.name in names):
        columns, types = tensor.shape[0], candidates(config, tensor.name)
        rows = [offered(each, columns, has_importance=has_imatrix) for each in types]
        fitting = [width for width in rows if width is not None]
        if not fitting:
            raise BudgetError(
                f"{tensor.name} has rows of {columns}, which none of the types fit that it may "
                f"take: {', '.join(types)}"
            )
        smallest += padded(min(fitting) * (tensor.num_elements // columns))
    require_within(header, wanted_bytes, smallest)


def require_within(header: GgufHeader, wanted_bytes: int, smallest_bytes: int) -> None:
    """Refuse a budget below the smallest file, or one that the whole 16-bit file fits.

    Raises:
        BudgetError: with the file's size.
    """
    if wanted_bytes < smallest_bytes:
        raise BudgetError(
            f"the budget of {wanted_bytes:,} bytes is below the smallest file these types can "
            f"make of this model, {smallest_bytes:,} bytes ({smallest_bytes / 2**20:.1f}M)"
        )
    if wanted_bytes >= header.file_bytes:
        raise BudgetError(
            f"the budget of {wanted_bytes:,} bytes holds the whole {header.path.name} of "
            f"{header.file_bytes:,}: there is nothing to choose; serve that file"
        )
