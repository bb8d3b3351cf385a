"""Rows of weights into a ggml type and back, by ggml itself; knows no file and no model.

Source: ggml_quantize_chunk and ggml_get_type_traits in ggml.h.
"""

import ctypes
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.llama import ggml_types
from quantize.llama.ggml_tensor import Bytes, Float32, ggml
from quantize.machine import num_cores

_TO_FLOAT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)


class _Traits(ctypes.Structure):
    """Mirror `struct ggml_type_traits`."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.c_void_p),
        ("from_float_ref", ctypes.c_void_p),
    )


@functools.cache
def _library() -> Any:
    lib = ggml()
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
    lib.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    lib.ggml_get_type_traits.argtypes = [ctypes.c_int]
    lib.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    return lib


@functools.cache
def _number(type_name: str) -> int:
    return next(key for key, entry in ggml_types.table().items() if entry.name == type_name)


def row_bytes(type_name: str, num_columns: int) -> int | None:
    """Return the bytes of a row, or None where the row is no whole number of blocks."""
    stored = ggml_types.by_name(type_name)
    if stored is None or num_columns % stored.block_length:
        return None
    return num_columns // stored.block_length * stored.block_bytes


def needs_importance(type_name: str) -> bool:
    """Say whether ggml ends the process when a type is asked for without importances."""
    return bool(_library().ggml_quantize_requires_imatrix(_number(type_name)))


def encode(type_name: str, rows: Float32, importance: Float32 | None = None) -> Bytes:
    """Return (rows, columns) float32 in a type; `importance` is (columns,) float32."""
    num_rows, num_columns = rows.shape
    width = row_bytes(type_name, num_columns)
    assert width is not None  # the caller offers fitting types only
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if type_name == "f32":
        return rows.view(np.uint8).reshape(-1)
    out = np.empty(num_rows * width, dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    _library().ggml_quantize_chunk(
        _number(type_name),
        rows.ctypes.data,
        out.ctypes.data,
        0,
        num_rows,
        num_columns,
        None if weights is None else weights.ctypes.data,
    )
    return out


def rounded(type_name: str, rows: Float32, importance: Float32 | None = None) -> Float32:
    """Return rows as a type would render them, worked out on all cores."""
    parts = np.array_split(rows, min(num_cores(), len(rows)))

    def one(part: Float32) -> Float32:
        return decode(type_name, encode(type_name, part, importance), rows.shape[1])

    with ThreadPoolExecutor(len(parts)) as pool:
        return np.concatenate(list(pool.map(one, parts)))


def decode(type_name: str, raw: npt.NDArray[np.uint8], num_columns: int) -> Float32:
    """Return stored rows as (rows, columns) float32."""
    width = row_bytes(type_name, num_columns)
    assert width is not None  # a file's tensors hold whole rows
    raw = np.ascontiguousarray(raw)
    if type_name == "f32":
        return raw.view(np.float32).reshape(-1, num_columns)
    out = np.empty((raw.size // width, num_columns), dtype=np.float32)
    to_float = _TO_FLOAT(_library().ggml_get_type_traits(_number(type_name)).contents.to_float)
    to_float(raw.ctypes.data, out.ctypes.data, out.size)
    return out
