"""Text to token ids and back, with the model's own vocabulary.

Read-only over an immutable llama vocabulary, so every thread may call it at once. Knows neither
contexts nor sequences.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from serve.engine.native import library

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_TOKEN = -1  # LLAMA_TOKEN_NULL


class Vocabulary:
    """The tokens of one loaded model; valid until the model is freed."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._lib = library()
        self._bytes: dict[int, bytes] = {}
        self.size: int = self._lib.llama_vocab_n_tokens(handle)
        self.add_bos = bool(self._lib.llama_vocab_get_add_bos(handle))

    def special(self, name: str) -> int | None:
        """Return the id of `bos`, `eos`, `eot`, `pad`, `sep`, `nl` or `fim_*`; None without one."""
        token_id = getattr(self._lib, f"llama_vocab_{name}")(self._handle)
        return None if token_id == NO_TOKEN else int(token_id)

    def end_of_generation_ids(self) -> frozenset[int]:
        """Return every token after which the model has nothing more to say."""
        is_end = self._lib.llama_vocab_is_eog
        return frozenset(i for i in range(self.size) if is_end(self._handle, i))

    def constraint_tokenizer(self) -> Any:
        """Make the table that constraints are compiled for; valid as long as the vocabulary.

        It takes 0.3 s for 50,000 tokens. Tokens that a template marks something with get the prefix
        by which llguidance knows them: no text becomes one. Source: llguidance `llamacpp`, whose
        own loop calls what llama.cpp has deprecated.
        """
        from llguidance import LLTokenizer

        first = self.special("eos")
        ends = sorted(self.end_of_generation_ids(), key=lambda token_id: token_id != first)
        function = self._lib._lib.llama_tokenize  # noqa: SLF001  # the binding has no address
        tokenize = ctypes.cast(function, ctypes.c_void_p)
        return LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]  # not in its stub
            tokens=[self._constraint_bytes(token_id) for token_id in range(self.size)],
            vocab_ptr=self._handle,
            tokenize_fptr=tokenize.value,
            eos_token=ends or None,
            slices=None,
        )

    def _constraint_bytes(self, token_id: int) -> bytes:
        """Source: llama.h `llama_token_attr`."""
        name = self.token_bytes(token_id)
        attributes = self._lib.llama_vocab_get_attr(self._handle, token_id)
        is_mark = attributes & self._lib.LLAMA_TOKEN_ATTR_CONTROL or (
            attributes & self._lib.LLAMA_TOKEN_ATTR_USER_DEFINED
            and name.startswith(b"<")
            and name.endswith(b">")
        )
        return b"\xff" + name if is_mark else name

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Encode; `add_special` adds BOS exactly where the model's metadata asks for it.

        Source: llama.h `llama_tokenize`.
        """
        data = text.encode("utf-8", "replace")
        room = len(data) + 2
        buffer = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(
            self._handle, data, len(data), buffer, room, add_special, parse_special
        )
        if count < 0:
            room = -count
            buffer = (self._lib.llama_token * room)()
            count = self._lib.llama_tokenize(
                self._handle, data, len(data), buffer, room, add_special, parse_special
            )
        return list(buffer[:count])

    def detokenize(self, token_ids: Sequence[int], *, special: bool) -> str:
        """Decode; `special` shows control tokens. Source: llama.h `llama_detokenize`."""
        tokens = (self._lib.llama_token * len(token_ids))(*token_ids)
        room = 16 + 8 * len(token_ids)
        buffer = ctypes.create_string_buffer(room)
        count = self._detokenize_into(tokens, buffer, room, special=special)
        if count < 0:
            room = -count
            buffer = ctypes.create_string_buffer(room)
            count = self._detokenize_into(tokens, buffer, room, special=special)
        return buffer.raw[:count].decode("utf-8", "replace")

    def _detokenize_into(self, tokens: Any, buffer: Any, room: int, *, special: bool) -> int:
        return int(
            self._lib.llama_detokenize(
                self._handle, tokens, len(tokens), buffer, room, False, special
            )
        )

    def token_bytes(self, token_id: int) -> bytes:
        """Return a token as it reads in text, control tokens by name; may be half a character."""
        return self._piece(token_id, special=True)

    def text_bytes(self, token_id: int) -> bytes:
        """Return what a generated token adds to the text: nothing for a control token."""
        known = self._bytes.get(token_id)
        if known is None:
            known = self._bytes[token_id] = self._piece(token_id, special=False)
        return known

    def _piece(self, token_id: int, *, special: bool) -> bytes:
        """Source: llama.h `llama_token_to_piece`; a negative count is the room it needs."""
        room = 32
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = self._lib.llama_token_to_piece(self._handle, token_id, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count
