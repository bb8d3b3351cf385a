"""The tensor types of the installed ggml: name, block length and block bytes, from the library.

Asking the library keeps this reader in step with the runtime; a package of constants may be older.
"""

import ctypes
import functools

import msgspec

from quantize.llama.native import library


class GgmlType(msgspec.Struct, frozen=True, kw_only=True):
    """Describe how a tensor type is stored."""

    name: str
    block_length: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Return bits per weight, scales included."""
        return self.block_bytes * 8 / self.block_length


@functools.cache
def table() -> dict[int, GgmlType]:
    """Return every type by its number; removed ones are left out.

    Source: ggml_type_name, ggml_blck_size and ggml_type_size in ggml.h, which end the process on
    a number they do not know; only numbers below GGML_TYPE_COUNT are asked.
    """
    lib = library()
    from llama_cpp._ggml import libggml

    libggml.ggml_type_name.restype = ctypes.c_char_p
    libggml.ggml_blck_size.restype = ctypes.c_int64
    libggml.ggml_type_size.restype = ctypes.c_size_t
    found = {}
    for number in range(lib.GGML_TYPE_COUNT):
        block_length = libggml.ggml_blck_size(number)
        if block_length > 0:
            found[number] = GgmlType(
                name=libggml.ggml_type_name(number).decode().lower(),
                block_length=block_length,
                block_bytes=libggml.ggml_type_size(number),
            )
    return found


def by_name(name: str) -> GgmlType | None:
    """Return the type with a lower-case name, or None."""
    return next((entry for entry in table().values() if entry.name == name), None)
