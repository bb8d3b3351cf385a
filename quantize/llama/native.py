"""What llama.cpp says while it works: caught, kept, and handed on; nothing reaches the terminal."""

import contextlib
import ctypes
import sys
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from quantize.errors import LibraryError

_KEPT_LINES = 40
_callback: Any = None  # the library holds a bare pointer: a collected callback would crash it


def library() -> Any:
    """Return the low-level bindings, silenced.

    Raises:
        LibraryError: when llama-cpp-python is not installed or does not load.
    """
    _share_standard_library()
    try:
        from llama_cpp import llama_cpp as lib
    except (ImportError, OSError, RuntimeError) as error:
        raise LibraryError(
            f"llama-cpp-python does not load ({error}); install the quantize extra"
        ) from error
    if _callback is None:
        _listen(lib, _ignore)
    return lib


def _share_standard_library() -> None:
    """Let all of llama.cpp see one C++ standard library; docs/gpu.md says what happens else."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a system without it: then nothing can be doubled
            ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)


@contextlib.contextmanager
def captured(on_text: Callable[[str], None] | None = None) -> Iterator[deque[str]]:
    """Collect the last lines of what the library logs, and pass each piece on."""
    lib = library()
    lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def receive(text: str) -> None:
        if text.strip(". \n"):
            lines.append(text.strip())
        if on_text is not None:
            on_text(text)

    _listen(lib, receive)
    try:
        yield lines
    finally:
        _listen(lib, _ignore)


def _listen(lib: Any, receive: Callable[[str], None]) -> None:
    global _callback  # noqa: PLW0603  # one log callback per process is the library's own rule

    @lib.llama_log_callback  # type: ignore[untyped-decorator]
    def callback(_level: int, text: bytes, _user_data: ctypes.c_void_p) -> None:
        receive(text.decode("utf-8", errors="replace"))

    lib.llama_log_set(callback, ctypes.c_void_p(0))
    _callback = callback


def _ignore(_text: str) -> None:
    """Drop what is said outside of `captured`."""
