"""A loaded GGUF: tokenize, decode a sequence, read logits. Knows no run, no text format.

One sequence, one thread of use. Logits are copied out of the library at once: its buffer moves.
"""

import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quantize.closing import Closing
from quantize.errors import LibraryError
from quantize.llama.native import captured, library
from quantize.machine import num_cores

Logits = npt.NDArray[np.float32]


class LlamaSession(Closing):
    """Hold a model and one context; close it, or use it in a `with`."""

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        n_batch: int = 128,
        num_sequences: int = 1,
        kv_type: str = "f16",
        adapter: Path | None = None,
        node_callback: Any = None,
        writable: bool = False,
    ) -> None:
        """Load a file.

        `adapter` is a GGUF adapter that every decode applies.
        `node_callback` is called for each computed node; `writable` copies the weights into
        memory of their own, so that they can be changed.
        """
        self.lib = library()
        self.n_batch = n_batch
        self.num_sequences = num_sequences
        self.kv_type = kv_type
        self._node_callback = node_callback  # C keeps a bare pointer
        self._writable = writable
        self._stack = contextlib.ExitStack()
        with captured() as lines:
            self._model = self._load(path, lines)
            self._vocab = self.lib.llama_model_get_vocab(self._model)
            self._context = self._open(path, n_ctx, lines)
            if adapter is not None:
                self._apply(adapter, lines)
        self._batch = self.lib.llama_batch_init(n_batch, 0, 1)
        self._stack.callback(self.lib.llama_batch_free, self._batch)
        self.n_vocab: int = self.lib.llama_vocab_n_tokens(self._vocab)
        self.n_past = 0

    def close(self) -> None:
        """Free batch, context and model, in that order."""
        self._stack.close()

    def reset(self) -> None:
        """Forget the sequence."""
        self.lib.llama_memory_clear(
            self.lib.llama_get_memory(self._context), True
        )  # ctypes takes no names
        self.n_past = 0

    def tokenize(self, text: str, *, parse_special: bool, add_special: bool) -> list[int]:
        """Return token ids; `add_special` lets the model's own rule put a BOS in front."""
        raw = text.encode()
        room = len(raw) + 8
        ids = (ctypes.c_int32 * room)()
        count = self.lib.llama_tokenize(
            self._vocab, raw, len(raw), ids, room, add_special, parse_special
        )
        if count < 0:
            raise LibraryError(f"tokenizing {len(raw)} bytes gave {-count} tokens, room for {room}")
        return list(ids[:count])

    def piece(self, token_id: int) -> str:
        """Return a token's text, special tokens included."""
        return self.piece_bytes(token_id, special=True).decode("utf-8", errors="replace")

    def piece_bytes(self, token_id: int, *, special: bool) -> bytes:
        """Return the bytes of a token's text; empty for a special token unless asked for."""
        room = 512
        buffer = ctypes.create_string_buffer(room)
        length = self.lib.llama_token_to_piece(self._vocab, token_id, buffer, room, 0, special)
        return buffer.raw[: max(length, 0)]

    def special_ids(self) -> dict[str, int]:
        """Return the ids of bos, eos and eot; -1 where the vocabulary has none."""
        return {
            "bos": self.lib.llama_vocab_bos(self._vocab),
            "eos": self.lib.llama_vocab_eos(self._vocab),
            "eot": self.lib.llama_vocab_eot(self._vocab),
        }

    def fim_ids(self) -> dict[str, int]:
        """Return the ids that mark prefix, suffix and middle; -1 where there are none."""
        return {
            "prefix": self.lib.llama_vocab_fim_pre(self._vocab),
            "suffix": self.lib.llama_vocab_fim_suf(self._vocab),
            "middle": self.lib.llama_vocab_fim_mid(self._vocab),
        }

    def special_names(self) -> dict[str, str]:
        """Return the variables a chat template may use for special tokens."""
        ids = self.special_ids()
        return {f"{name}_token": self.piece(ids[name]) for name in ("bos", "eos") if ids[name] >= 0}

    def is_end(self, token_id: int) -> bool:
        """Say whether a token ends a generation."""
        return bool(self.lib.llama_vocab_is_eog(self._vocab, token_id))

    def stop_ids(self) -> list[int]:
        """Return every token that ends a generation."""
        return [token_id for token_id in range(self.n_vocab) if self.is_end(token_id)]

    def is_control(self, token_id: int) -> bool:
        """Say whether a token stands for something other than its text."""
        kinds = self.lib.LLAMA_TOKEN_ATTR_CONTROL | self.lib.LLAMA_TOKEN_ATTR_UNKNOWN
        return bool(self.lib.llama_vocab_get_attr(self._vocab, token_id) & kinds)

    def adds_bos(self) -> bool:
        """Say whether plain text gets a BOS in front."""
        return bool(self.lib.llama_vocab_get_add_bos(self._vocab))

    def decode(self, token_ids: Sequence[int], *, first_logits: int) -> Iterator[Logits]:
        """Append tokens; yield the logits of those from index `first_logits` on, in chunks.

        Each chunk is (rows, n_vocab) float32, a copy. Run the iterator to its end.
        """
        for start in range(0, len(token_ids), self.n_batch):
            chunk = token_ids[start : start + self.n_batch]
            wanted = [start + row >= first_logits for row in range(len(chunk))]
            self._fill(chunk, wanted)
            self._run()
            self.n_past += len(chunk)
            if any(wanted):
                yield self._rows(sum(wanted))

    def last_logits(self, token_ids: Sequence[int]) -> Logits:
        """Append tokens and return the logits after the last one, (n_vocab,) float32."""
        last: Logits | None = None
        for rows in self.decode(token_ids, first_logits=len(token_ids) - 1):
            last = rows[-1]
        assert last is not None  # the caller gives at least one token
        return last

    def _load(self, path: Path, lines: Sequence[str]) -> Any:
        params = self.lib.llama_model_default_params()
        if self._writable:
            params.load_mode = self.lib.LLAMA_LOAD_MODE_NONE
            params.use_extra_bufts = False  # a repacked weight could not be written in place
        model = self.lib.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise LibraryError(f"llama.cpp cannot load {path}: {_last(lines)}")
        self._stack.callback(self.lib.llama_model_free, model)
        return model

    def _open(self, path: Path, n_ctx: int, lines: Sequence[str]) -> Any:
        params = self.lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = params.n_ubatch = params.n_outputs_max = self.n_batch
        params.n_threads = params.n_threads_batch = num_cores()
        params.n_seq_max, params.kv_unified = self.num_sequences, True
        params.type_k = params.type_v = getattr(self.lib, f"GGML_TYPE_{self.kv_type.upper()}")
        if self.kv_type != "f16":
            params.flash_attn_type = self.lib.LLAMA_FLASH_ATTN_TYPE_ENABLED  # quantized V needs it
        if self._node_callback is not None:
            params.cb_eval = self._node_callback
        context = self.lib.llama_init_from_model(self._model, params)
        if not context:
            self._stack.close()
            raise LibraryError(f"no context of {n_ctx} tokens for {path}: {_last(lines)}")
        self._stack.callback(self.lib.llama_free, context)
        return context

    def _apply(self, adapter: Path, lines: Sequence[str]) -> None:
        """Load an adapter, which the model owns, and set it on the context."""
        loaded = self.lib.llama_adapter_lora_init(self._model, str(adapter).encode())
        if not loaded:
            self._stack.close()
            raise LibraryError(f"llama.cpp cannot load the adapter {adapter}: {_last(lines)}")
        adapters = (self.lib.llama_adapter_lora_p_ctypes * 1)(loaded)
        scales = (ctypes.c_float * 1)(1.0)
        if self.lib.llama_set_adapters_lora(self._context, adapters, 1, scales) != 0:
            self._stack.close()
            raise LibraryError(f"llama.cpp does not apply the adapter {adapter}: {_last(lines)}")

    def _fill(self, token_ids: Sequence[int], wanted: Sequence[bool]) -> None:
        self._batch.n_tokens = len(token_ids)
        for row, token_id in enumerate(token_ids):
            self._put(row, token_id, self.n_past + row, sequence=0, wanted=wanted[row])

    def _put(self, row: int, token_id: int, place: int, *, sequence: int, wanted: bool) -> None:
        self._batch.token[row] = token_id
        self._batch.pos[row] = place
        self._batch.n_seq_id[row] = 1
        self._batch.seq_id[row][0] = sequence
        self._batch.logits[row] = wanted

    def _run(self) -> None:
        status = self.lib.llama_decode(self._context, self._batch)
        if status != 0:
            raise LibraryError(f"llama_decode returned {status} at position {self.n_past}")

    def _rows(self, num_rows: int) -> Logits:
        pointer = self.lib.llama_get_logits(self._context)
        return (
            np.ctypeslib.as_array(pointer, shape=(num_rows * self.n_vocab,))
            .reshape(num_rows, self.n_vocab)
            .copy()
        )


def system_info() -> str:
    """Return the instruction sets the library was built for and uses."""
    text: bytes = library().llama_print_system_info()
    return text.decode().strip()


def _last(lines: Sequence[str]) -> str:
    return " | ".join(list(lines)[-2:]) or "it gave no reason"
