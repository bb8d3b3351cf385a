"""One GGUF and one llama context: load, decode, cut and copy cells, close.

The context belongs to the worker thread; only `abort` and the vocabulary may be used by others.
Knows nothing of requests, plans or sampling.
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from serve.engine import machine, native
from serve.engine.adapters import AdapterSet
from serve.engine.batch import Batch, Outcome
from serve.engine.chunking import FIRST_CHUNK
from serve.engine.context import computes_on_gpu, create_context, default_slots
from serve.engine.errors import DecodeError
from serve.engine.memory import plan_context
from serve.engine.model_info import (
    ModelInfo,
    model_figures,
    read_kv_shape,
    read_metadata,
    vocabulary_figures,
)
from serve.engine.vocabulary import Vocabulary
from serve.engine.weights import can_be_cut, check_file, check_kind, load_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve.engine.compute import ComputeThread
    from serve.engine.config import EngineConfig

Logits = npt.NDArray[np.float32]
State = npt.NDArray[np.uint8]


class Model:
    """A loaded model with its context. Create it with `Model.load`, end it with `close`."""

    def __init__(
        self,
        handle: Any,
        context: Any,
        info: ModelInfo,
        *,
        abort: native.AbortFlag,
        adapters: AdapterSet,
        compute: ComputeThread | None,
    ) -> None:
        self._lib = native.library()
        self._model = handle
        self._context = context
        self._memory = self._lib.llama_get_memory(context)
        self.info = info
        self.abort = abort
        self.adapters = adapters
        self._run: Callable[[Callable[[], int]], int] = compute.run if compute else _here
        self.n_batch: int = self._lib.llama_n_batch(context)
        self.vocabulary = Vocabulary(self._lib.llama_model_get_vocab(handle))
        self.can_trim = can_be_cut(handle)
        self.can_trim_restored = self.can_trim and not self._lib.llama_model_n_swa(handle)
        self._rows = RowBuffers(self.n_batch)
        self._logits_type = ctypes.c_float * self.vocabulary.size

    @classmethod
    def load(cls, config: EngineConfig, compute: ComputeThread | None = None) -> Model:
        """Load weights and create a context that fits this machine; decode on `compute`, if any.

        Raises: ModelLoadError, AdapterLoadError, ContextTooLargeError.
        """
        path = Path(config.model)
        check_file(path)
        free_bytes = machine.available_memory_bytes()
        handle = load_weights(config, path)
        try:
            check_kind(path, handle)
            return cls._with_context(config, path, handle, free_bytes, compute)
        except BaseException:
            native.library().llama_model_free(handle)
            raise

    @classmethod
    def _with_context(
        cls,
        config: EngineConfig,
        path: Path,
        handle: Any,
        free_bytes: int | None,
        compute: ComputeThread | None,
    ) -> Model:
        lib = native.library()
        metadata = read_metadata(handle)
        slots = config.slots or default_slots()
        on_gpu = computes_on_gpu(config)
        plan = plan_context(
            config, read_kv_shape(handle, metadata), slots, None if on_gpu else free_bytes
        )
        adapters = AdapterSet(handle, config.adapters)
        abort = native.AbortFlag()
        threads = config.threads or machine.num_cores()
        n_slots = slots + config.fim_slots
        context = create_context(
            config, handle, plan, n_slots=n_slots, threads=threads, abort=abort
        )
        info = ModelInfo(
            **model_figures(handle, path, metadata),
            **vocabulary_figures(Vocabulary(lib.llama_model_get_vocab(handle))),
            n_ctx_train=int(lib.llama_model_n_ctx_train(handle)),
            size_bytes=int(lib.llama_model_size(handle)),
            context_length=plan.context_length,
            n_cells=plan.n_cells,
            n_slots=n_slots,
            kv_type=config.kv_type,
            threads=threads,
        )
        return cls(handle, context, info, abort=abort, adapters=adapters, compute=compute)

    def decode(self, batch: Batch) -> Outcome:
        """Compute one batch. Raises: DecodeError. Source: llama.h `llama_decode`."""
        # The library ends the process when a batch is longer.
        assert 0 < len(batch) <= self.n_batch  # invariant
        self.adapters.apply(self._context, batch.adapters)
        native.forget_complaints()
        rows = self._rows.fill(batch)
        code = self._run(lambda: self._compute(rows))
        if code in {0, 1, 2}:
            return Outcome(code)
        raise DecodeError(f"llama_decode returned {code}: {native.complaints() or 'no reason'}")

    def set_threads(self, threads: int, threads_batch: int) -> None:
        """Compute one row, and several, with so many threads. Source: `llama_set_n_threads`."""
        self._lib.llama_set_n_threads(self._context, threads, threads_batch)

    def _compute(self, rows: Any) -> int:
        code = self._lib.llama_decode(self._context, rows)
        self._lib.llama_synchronize(self._context)  # a GPU's work would go on, and cost nothing
        return int(code)

    def logits(self, row: int) -> Logits:
        """Return a view, `(n_vocab,) float32`, of a row's logits, valid until the next decode."""
        pointer = self._lib.llama_get_logits_ith(self._context, row)
        if not pointer:
            raise DecodeError(f"row {row} of the batch has no logits")
        address = ctypes.addressof(pointer.contents)
        row_memory: Any = self._logits_type.from_address(address)
        return np.frombuffer(row_memory, dtype=np.float32)

    def trim(self, seq_id: int, start: int) -> None:
        """Drop the cells of a sequence from position `start` on. Raises: DecodeError."""
        if not self._lib.llama_memory_seq_rm(self._memory, seq_id, start, -1):
            self._lib.llama_memory_seq_rm(self._memory, seq_id, -1, -1)
            raise DecodeError(f"this model's memory cannot be cut at position {start}")

    def copy(self, source: int, target: int, stop: int) -> None:
        """Share cells `0..stop` of one sequence with another, which must be empty."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, stop)

    def end_position(self, seq_id: int) -> int:
        """Return how many positions of a sequence have cells."""
        return int(self._lib.llama_memory_seq_pos_max(self._memory, seq_id)) + 1

    def state_bytes(self, seq_id: int) -> int:
        """Return the size of a sequence's state. Source: llama.h `llama_state_seq_get_size`."""
        return int(self._lib.llama_state_seq_get_size(self._context, seq_id))

    def save(self, seq_id: int) -> State:
        """Copy a sequence's cells out. Raises: DecodeError.

        With a sliding window the library leaves out what later tokens cannot see, so such a state
        cannot be cut after it was restored. Source: llama.h `llama_state_seq_get_data`.
        """
        state = np.empty(self.state_bytes(seq_id), np.uint8)
        count = self._lib.llama_state_seq_get_data(
            self._context, _pointer(state, ctypes.c_uint8), state.size, seq_id
        )
        if count != state.size:
            raise DecodeError(f"saving sequence {seq_id} gave {count} of {state.size} bytes")
        return state

    def restore(self, seq_id: int, state: State) -> bool:
        """Put saved cells into an empty sequence; False when they do not fit.

        The library checks neither content nor model. Source: llama.h `llama_state_seq_set_data`.
        """
        native.forget_complaints()
        count = self._lib.llama_state_seq_set_data(
            self._context, _pointer(state, ctypes.c_uint8), state.size, seq_id
        )
        return bool(count)

    def warm_up(self) -> tuple[int, float]:
        """Page the weights in; return rows and seconds of a batch that found them there."""
        token_ids = list(range(min(FIRST_CHUNK, self.vocabulary.size)))
        count = len(token_ids)
        batch = Batch(token_ids, list(range(count)), [0] * count, [0] * (count - 1) + [1])
        seconds = 0.0
        for _ in range(2):
            began = time.monotonic()
            self.decode(batch)
            seconds = time.monotonic() - began
            self.trim(0, 0)
        return count, seconds

    def close(self) -> None:
        """Free context, then model; the worker has joined and the samplers are gone."""
        if self._context is not None:
            self._lib.llama_free(self._context)
            self._lib.llama_model_free(self._model)
            self._context = self._model = self._memory = None


class RowBuffers:
    """The memory behind a `llama_batch`: one sequence id a row, allocated once, owned by us."""

    def __init__(self, capacity: int) -> None:
        lib = native.library()
        self._token_ids = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._num_ids = np.ones(capacity, np.int32)
        self._seq_ids = np.zeros(capacity, np.int32)
        self._wants_logits = np.zeros(capacity, np.int8)
        first = self._seq_ids.ctypes.data
        addresses = first + np.arange(capacity, dtype=np.uintp) * self._seq_ids.itemsize
        self._seq_id_pointers = np.ascontiguousarray(addresses)
        self._batch = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self._token_ids, lib.llama_token),
            embd=None,
            pos=_pointer(self._positions, lib.llama_pos),
            n_seq_id=_pointer(self._num_ids, ctypes.c_int32),
            seq_id=_pointer(self._seq_id_pointers, ctypes.POINTER(lib.llama_seq_id)),
            logits=_pointer(self._wants_logits, ctypes.c_int8),
        )

    def fill(self, batch: Batch) -> Any:
        """Copy the columns in and return the struct for `llama_decode`."""
        count = len(batch)
        self._token_ids[:count] = batch.token_ids
        self._positions[:count] = batch.positions
        self._seq_ids[:count] = batch.seq_ids
        self._wants_logits[:count] = batch.wants_logits
        self._batch.n_tokens = count
        return self._batch


def _here(work: Callable[[], int]) -> int:
    """Compute on the caller's thread."""
    return work()


def _pointer(array: npt.NDArray[Any], element: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(element))
