"""Reads what a GGUF says of itself without loading it: what it will cost, and what kind it is.

Needs no llama_cpp and touches no weights. Source: the GGUF specification, versions 2 and 3.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import TYPE_CHECKING, Any

import msgspec

from serve.engine.errors import ModelLoadError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_LONGEST_KEPT = 1024  # an array of a number a layer is kept, the tokens of a vocabulary are not


_TOKENS = "tokenizer.ggml.tokens"
_FIM_MARKS = (
    "<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "▁<PRE>", "<|code_prefix|>",
    "<\uff5cfim\u2581begin\uff5c>",
)  # fmt: skip  # Source: llama-vocab.cpp, where the tokens of these names count as FIM tokens


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """`metadata` has numbers, strings and short arrays of numbers; `n_params` counts weights."""

    metadata: dict[str, Any]
    n_params: int
    n_vocab: int
    has_fim: bool

    @property
    def architecture(self) -> str:
        """Return llama.cpp's name for it, which begins the keys of its dimensions."""
        return str(self.metadata.get("general.architecture", ""))

    def of_architecture(self, key: str, default: Any = None) -> Any:
        """Return a dimension; the largest where each layer has its own."""
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return max(value, default=default) if isinstance(value, list) else value

    @property
    def is_adapter(self) -> bool:
        """Say whether it holds no model but a change of one."""
        return self.metadata.get("general.type") == "adapter"

    @property
    def pooling_type(self) -> int:
        """Return how the model makes one vector of many; 0 for one that generates text."""
        is_causal = self.of_architecture("attention.causal", default=True)
        return int(self.of_architecture("pooling_type", 0 if is_causal else 1))


def read_header(path: Path) -> Header:
    """Read a file's header. Raises: ModelLoadError."""
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"cannot read the model {path}: {error}") from error
    with content:
        try:
            return _Reader(content).header()
        except (struct.error, KeyError, OverflowError, UnicodeDecodeError) as error:
            raise ModelLoadError(f"{path} has metadata that cannot be read: {error!r}") from error
        except _NotGgufError:
            raise ModelLoadError(f"{path} is not a GGUF file of version 2 or 3") from None


class _NotGgufError(Exception):
    pass


class _Reader:
    """A position in the file. Numbers are little-endian."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._at = 0

    def header(self) -> Header:
        """Read all of it from the beginning."""
        if self._content[:4] != _MAGIC:
            raise _NotGgufError
        self._at = 4
        version, num_tensors, num_pairs = self._unpack("IQQ")
        if version not in _VERSIONS:
            raise _NotGgufError
        metadata: dict[str, Any] = {}
        vocabulary = (0, 0, 0)
        for _ in range(num_pairs):
            key = self._string()
            kind = self._unpack("I")[0]
            start = self._at
            value = self._value(kind)
            if key == _TOKENS:
                count = struct.unpack_from("<Q", self._content, start + 4)[0]
                vocabulary = (count, start, self._at)
            elif value is not None:
                metadata[key] = value
        n_params = sum(self._tensor_size() for _ in range(num_tensors))
        n_vocab, *where = vocabulary
        return Header(
            metadata=metadata, n_params=n_params, n_vocab=n_vocab, has_fim=self._has_fim(*where)
        )

    def _tensor_size(self) -> int:
        self._string()
        (num_dimensions,) = self._unpack("I")
        dimensions = self._unpack(f"{num_dimensions}Q")
        self._unpack("IQ")  # type and place
        return math.prod(dimensions)

    def _has_fim(self, start: int, stop: int) -> bool:
        """Look for a token that is exactly one of the marks: its length stands before it."""
        for mark in _FIM_MARKS:
            token = mark.encode()
            if self._content.find(struct.pack("<Q", len(token)) + token, start, stop) >= 0:
                return True
        return False

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{layout}", self._content, self._at)
        self._at += struct.calcsize(f"<{layout}")
        return values

    def _string(self) -> str:
        (length,) = self._unpack("Q")
        start, self._at = self._at, self._at + length
        return self._content[start : self._at].decode("utf-8", "replace")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        return self._unpack(_NUMBERS[kind])[0]

    def _array(self) -> list[Any] | None:
        kind, count = self._unpack("IQ")
        if kind == _STRING:
            self._skip_strings(count)
            return None
        if kind == _ARRAY:
            for _ in range(count):
                self._array()
            return None
        if count > _LONGEST_KEPT:
            self._at += count * struct.calcsize(f"<{_NUMBERS[kind]}")
            return None
        return list(self._unpack(f"{count}{_NUMBERS[kind]}"))

    def _skip_strings(self, count: int) -> None:
        """A vocabulary has a hundred thousand of them: one bare loop."""
        read, content, at = struct.Struct("<Q").unpack_from, self._content, self._at
        for _ in range(count):
            at += 8 + read(content, at)[0]
        self._at = at
