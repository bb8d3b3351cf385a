"""A ggml tensor seen from Python: its fields, its bytes, and a callback on each computed node.

ggml keeps its tensors in a plain C struct. Its layout is checked against the library's own size
before use, so that another release is refused instead of misread. Knows no model and no file.
"""

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.errors import LibraryError
from quantize.llama.native import library

Bytes = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
_OBJECT_BYTES = 32
"""What ggml_tensor_overhead() counts beside the tensor itself."""


class Tensor(ctypes.Structure):
    """Mirror `struct ggml_tensor`; `ne` and `nb` are element counts and strides in bytes."""


Tensor._fields_ = [  # set after the class, since it names itself
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


def ggml() -> Any:
    """Return ggml's library with the signatures used here.

    Raises:
        LibraryError: when its tensors are laid out in another way than `Tensor`.
    """
    library()
    from llama_cpp._ggml import libggml

    libggml.ggml_tensor_overhead.restype = ctypes.c_size_t
    held = libggml.ggml_tensor_overhead() - _OBJECT_BYTES
    if held != ctypes.sizeof(Tensor):
        raise LibraryError(
            f"this llama.cpp's tensors take {held} bytes, {ctypes.sizeof(Tensor)} are known; "
            "install the pinned llama-cpp-python"
        )
    pointer, size = ctypes.POINTER(Tensor), ctypes.c_size_t
    libggml.ggml_nbytes.argtypes, libggml.ggml_nbytes.restype = [pointer], size
    libggml.ggml_op_name.argtypes = [ctypes.c_int]
    libggml.ggml_op_name.restype = ctypes.c_char_p
    for name in ("ggml_backend_tensor_get", "ggml_backend_tensor_set"):
        function = getattr(libggml, name)
        function.argtypes, function.restype = [pointer, ctypes.c_void_p, size, size], None
    return libggml


def op_number(name: str) -> int:
    """Return the number of an operation such as `MUL_MAT`.

    Source: ggml_op_name, which ends the process on a number past the last; both operations asked
    for lie well before it.
    """
    lib = ggml()
    for number in range(64):
        if lib.ggml_op_name(number).decode() == name:
            return number
    raise LibraryError(f"this llama.cpp has no operation {name}")


def weight_name(tensor: Any) -> str:
    """Return a weight's name without the device that a backend puts around it."""
    name: str = tensor.contents.name.decode("utf-8", errors="replace")
    return name.split("#")[1] if "#" in name else name


def read_bytes(lib: Any, tensor: Any) -> Bytes:
    """Copy a tensor's bytes from wherever they lie."""
    raw = np.empty(lib.ggml_nbytes(tensor), dtype=np.uint8)
    lib.ggml_backend_tensor_get(tensor, raw.ctypes.data, 0, raw.nbytes)
    return raw


def read_float32(lib: Any, tensor: Any) -> npt.NDArray[np.float32]:
    """Copy a float32 tensor as (ne3, ne2, ne1, ne0), whatever its strides."""
    raw = read_bytes(lib, tensor)
    shape = tuple(reversed(tensor.contents.ne))
    strides = tuple(reversed(tensor.contents.nb))
    return np.ndarray(shape, dtype=np.float32, buffer=raw, strides=strides)


def node_callback(lib: Any, wanted: Callable[[Any], bool], seen: Callable[[Any], None]) -> Any:
    """Return the C callback that asks `wanted` of each node and hands computed ones to `seen`.

    Keep a reference as long as the context lives. An exception cannot cross C: it is kept in the
    callback's `failure` list, and the computation stops.
    """
    failure: list[BaseException] = []

    @lib.ggml_backend_sched_eval_callback  # type: ignore[untyped-decorator]
    def callback(address: int, ask: bool, _user_data: int) -> bool:
        tensor = ctypes.cast(address, ctypes.POINTER(Tensor))
        try:
            if ask:
                return wanted(tensor)
            seen(tensor)
        except Exception as error:  # noqa: BLE001  # it is raised again by `raise_failure`
            failure.append(error)
            return False
        return True

    callback.failure = failure
    return callback


def raise_failure(callback: Any) -> None:
    """Raise what went wrong inside a callback."""
    with contextlib.suppress(IndexError):
        raise callback.failure[0]
