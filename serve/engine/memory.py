"""What a context costs in bytes, what fits, and the numbers to refuse with.

Pure arithmetic over a model's shape and the machine's free memory; knows no llama_cpp.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serve.engine.errors import ContextTooLargeError

if TYPE_CHECKING:
    from serve.engine.config import EngineConfig, KvType

DEFAULT_CONTEXT_LENGTH = 8192
KV_SHARE = 0.25  # of free memory that the default pool of cells may take
LEAST_FULL_CONTEXTS = 4  # that the default pool has room for, where there are as many slots
RESERVE_BYTES = 256 * 2**20  # compute buffers, logits and Python

# Bytes per element: blocks of 32 values plus a 16-bit scale. Source: ggml-common.h.
KV_ELEMENT_BYTES: dict[KvType, float] = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}


class KvShape(msgspec.Struct, frozen=True, kw_only=True):
    """The dimensions that decide the size of a KV cell, and the trained context."""

    n_layer: int
    n_head_kv: int
    key_length: int
    value_length: int
    n_ctx_train: int
    model_bytes: int

    def cell_bytes(self, kv_type: KvType) -> int:
        """Return the bytes of one token's keys and values over all layers."""
        elements = self.n_layer * self.n_head_kv * (self.key_length + self.value_length)
        return max(1, round(elements * KV_ELEMENT_BYTES[kv_type]))


class ContextPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the context will be created with. `n_cells` is shared by all sequences."""

    context_length: int
    n_cells: int
    kv_bytes: int


def plan_context(
    config: EngineConfig, shape: KvShape, slots: int, free_bytes: int | None
) -> ContextPlan:
    """Choose context length and pool of cells, or refuse with the numbers.

    `free_bytes` is the memory before the model was loaded; None skips the memory check, as for
    a GPU, where the library itself refuses. Raises: ContextTooLargeError.
    """
    cell = shape.cell_bytes(config.kv_type)
    cells_that_fit = _cells_that_fit(shape, cell, free_bytes)
    length = _context_length(config, shape, cells_that_fit)
    n_cells = config.kv_cells or _pool(length, slots, cells_that_fit)
    if n_cells < length:
        raise ContextTooLargeError(
            f"kv_cells is {n_cells} and one sequence may take {length}; "
            "raise kv_cells or lower the context length"
        )
    if cells_that_fit is not None and n_cells > cells_that_fit:
        raise _too_large(config, shape, n_cells, cells_that_fit, free_bytes or 0)
    return ContextPlan(context_length=length, n_cells=n_cells, kv_bytes=n_cells * cell)


def _cells_that_fit(shape: KvShape, cell: int, free_bytes: int | None) -> int | None:
    if free_bytes is None:
        return None
    return max(0, (free_bytes - shape.model_bytes - RESERVE_BYTES) // cell)


def _context_length(config: EngineConfig, shape: KvShape, cells_that_fit: int | None) -> int:
    asked = config.context_length
    if asked is not None and asked > shape.n_ctx_train:
        raise ContextTooLargeError(
            f"a context of {asked} tokens was asked for and the model was trained on "
            f"{shape.n_ctx_train}; use --context-length {shape.n_ctx_train} or less"
        )
    if asked is not None:
        return asked
    fits = DEFAULT_CONTEXT_LENGTH if cells_that_fit is None else cells_that_fit
    return max(min(shape.n_ctx_train, DEFAULT_CONTEXT_LENGTH, fits), 1)


def _pool(length: int, slots: int, cells_that_fit: int | None) -> int:
    """Give half of the slots a full context where a share of free memory pays for it.

    Few sequences are ever full at once, and who does not fit beside the running ones waits.
    """
    if cells_that_fit is None:
        return slots * length
    num_full = min(slots, max(LEAST_FULL_CONTEXTS, slots // 2))
    return max(length, min(num_full * length, int(cells_that_fit * KV_SHARE)))


def _too_large(
    config: EngineConfig, shape: KvShape, n_cells: int, fit: int, free_bytes: int
) -> ContextTooLargeError:
    kv_bytes = n_cells * shape.cell_bytes(config.kv_type)
    remedy = (
        "use --context-length"
        if config.kv_type != "f16"
        else ("use --context-length or kv_type q8_0")
    )
    return ContextTooLargeError(
        f"context {n_cells} needs {_gigabytes(kv_bytes)} of KV cache + model "
        f"{_gigabytes(shape.model_bytes)} + {_gigabytes(RESERVE_BYTES)} to compute; "
        f"{_gigabytes(free_bytes)} are available; at most {fit} tokens fit; {remedy}"
    )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
