"""The door to llama.cpp: loads the library, gathers its log, lends its abort flag.

Knows nothing of models, requests or threads. Everything else in this package gets the ctypes
bindings from `library()`, so importing the package costs nothing.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import logging
import sys
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)

_LOG_WARN = 3
_LOG_ERROR = 4

_recent_complaints: collections.deque[str] = collections.deque(maxlen=16)
_kept_callbacks: list[Any] = []  # a collected ctypes callback is a segmentation fault


@functools.cache
def library() -> ModuleType:
    """Import the bindings once, silence their own logger and start the backend."""
    _share_standard_library()
    from llama_cpp import llama_cpp

    _kept_callbacks.append(llama_cpp.llama_log_callback(_on_log))
    llama_cpp.llama_log_set(_kept_callbacks[-1], ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    return cast("ModuleType", llama_cpp)


def _share_standard_library() -> None:
    """Let all of llama.cpp see one C++ standard library.

    nvcc may link a copy of it into libggml-cuda and export it. Where numpy has loaded the system's
    before, for itself alone, libllama takes its regular expressions from one and their locale
    from the other, and dies in `load_vocab`.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a libc without it: then nothing can be doubled
            ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)


def _on_log(level: int, text: bytes, _user_data: Any) -> None:
    """Keep warnings and errors for our messages; Source: ggml.h `ggml_log_level`."""
    line = text.decode("utf-8", "replace").strip()
    if level in {_LOG_WARN, _LOG_ERROR} and line:
        _recent_complaints.append(line)
    logger.debug("%s", line)


def forget_complaints() -> None:
    """Start a new stretch, before a call whose failure we may have to explain.

    The log has one listener a process: another user of the library may have taken our place.
    """
    library().llama_log_set(_kept_callbacks[-1], ctypes.c_void_p(0))
    _recent_complaints.clear()


def complaints() -> str:
    """Join what the library said since `forget_complaints`; empty when it said nothing."""
    lines = [line.removesuffix(".") for line in _recent_complaints]
    return "; ".join(dict.fromkeys(lines))


def version() -> str:
    """Name the binding's and the library's version."""
    import llama_cpp

    own = library().llama_version().decode()
    return f"llama-cpp-python {llama_cpp.__version__} (llama.cpp {own})"


def supports_gpu_offload() -> bool:
    """Say whether this build can put layers on an accelerator."""
    return bool(library().llama_supports_gpu_offload())


class AbortFlag:
    r"""Stops a running `llama_decode` from another thread, without Python in its way.

    The library polls the callback after every graph node, hundreds of times a step. C's `strlen`
    over a two-byte buffer is that callback: an empty string means go on, "\\x01" means stop.
    """

    def __init__(self) -> None:
        libc = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
        self._buffer = ctypes.create_string_buffer(2)
        self.callback: Any = ctypes.cast(libc.strlen, library().ggml_abort_callback)
        self.address = ctypes.addressof(self._buffer)

    def raise_(self) -> None:
        """Ask the running decode to stop; any thread."""
        self._buffer[0] = b"\x01"

    def lower(self) -> None:
        """Let decodes run again."""
        self._buffer[0] = b"\x00"
