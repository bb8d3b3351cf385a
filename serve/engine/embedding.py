"""The engine of a model that makes one vector of a text.

Reads inputs in batches on one thread; nothing is kept from one batch to the next. Knows no HTTP and
does not normalise: dialects differ in that.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from serve.engine import machine, native
from serve.engine.batch import Batch
from serve.engine.errors import (
    ContextTooLargeError,
    DecodeError,
    EngineClosedError,
    InputTooLongError,
    InvalidSamplingError,
    ModelLoadError,
    QueueFullError,
)
from serve.engine.model import RowBuffers
from serve.engine.vocabulary import Vocabulary
from serve.engine.weights import check_file, load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.engine.compute import ComputeThread
    from serve.engine.model_info import ModelInfo
    from serve.engine.sizing import Sized

Vector = npt.NDArray[np.float32]

MAX_INPUTS = 64  # of one batch: short inputs share the rows of a call
_RANK = 4  # llama.h LLAMA_POOLING_TYPE_RANK: a score, not a vector
_QUEUE_SECONDS = 2


class EmbeddingEngine:
    """A loaded embedding model. Make it with `load`, end it with `close`.

    `num_read_tokens` in `num_calls` of llama_decode were read since it was loaded.
    """

    def __init__(self, handle: Any, context: Any, sized: Sized) -> None:
        self._lib = native.library()
        self._handle, self._context = handle, context
        self._memory = self._lib.llama_get_memory(context)
        self._vocabulary = Vocabulary(self._lib.llama_model_get_vocab(handle))
        self._length: int = sized.config.context_length or 1
        self._rows = RowBuffers(self._length)
        self._queue_limit = sized.config.queue_limit
        self._num_requests = 0
        self.num_read_tokens = 0
        self.num_calls = 0
        self.num_dimensions = int(self._lib.llama_model_n_embd_out(handle))
        self.model_info: ModelInfo = sized.info
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding")
        self._compute: ComputeThread | None = None
        self._is_closed = False

    @classmethod
    def load(cls, sized: Sized, compute: ComputeThread | None = None) -> EmbeddingEngine:
        """Load a model as it was planned; compute on `compute`, if any.

        Raises: ModelLoadError, ContextTooLargeError.
        """
        path = Path(sized.config.model)
        check_file(path)
        if sized.pooling_type == _RANK:
            raise ModelLoadError(f"{path} ranks texts and makes no vectors; no route does that")
        handle = load_weights(sized.config, path)
        try:
            engine = cls(handle, _context(handle, sized), sized)
        except BaseException:
            native.library().llama_model_free(handle)
            raise
        engine._compute = compute
        return engine

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Encode; `add_special` adds what the model wants around a text. Any thread.

        Raises: EngineClosedError.
        """
        self._check_open()
        return self._vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, token_ids: Sequence[int], *, special: bool = True) -> str:
        """Decode; `special` shows control tokens. Any thread. Raises: EngineClosedError."""
        self._check_open()
        return self._vocabulary.detokenize(token_ids, special=special)

    def token_bytes(self, token_id: int) -> bytes:
        """Return one token as it reads. Raises: EngineClosedError."""
        self._check_open()
        return self._vocabulary.token_bytes(token_id)

    def check(self, inputs: Sequence[Sequence[int]]) -> None:
        """Refuse what cannot be embedded. Raises: InputTooLongError, InvalidSamplingError."""
        size = self._vocabulary.size
        for token_ids in inputs:
            if not token_ids:
                raise InvalidSamplingError("input", "an input is empty; there is nothing to embed")
            if not (min(token_ids) >= 0 and max(token_ids) < size):
                raise InvalidSamplingError(
                    "input", f"a token does not exist; the vocabulary has {size} tokens"
                )
            if len(token_ids) > self._length:
                raise InputTooLongError(len(token_ids), self._length)

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[Vector]:
        """Return a vector, `(num_dimensions,) float32`, for each input, in order.

        Raises: InputTooLongError, InvalidSamplingError, QueueFullError, DecodeError,
        EngineClosedError.
        """
        self._check_open()
        self.check(inputs)
        if self._num_requests > self._queue_limit:
            raise QueueFullError(self._num_requests, self._queue_limit, _QUEUE_SECONDS)
        self._num_requests += 1
        loop, vectors = asyncio.get_running_loop(), []
        try:
            for batch in _batches(inputs, self._length):
                vectors += await loop.run_in_executor(self._executor, self._embed, batch)
        finally:
            self._num_requests -= 1
        return vectors

    def _embed(self, inputs: Sequence[Sequence[int]]) -> list[Vector]:
        if self._is_closed:
            raise EngineClosedError("the engine is closed")
        if self._compute is None:
            return self._read(inputs)
        return self._compute.run(lambda: self._read(inputs))

    def _read(self, inputs: Sequence[Sequence[int]]) -> list[Vector]:
        """Compute one batch. Source: llama.h `llama_decode`, `llama_get_embeddings_seq`."""
        batch = Batch()
        for seq_id, token_ids in enumerate(inputs):
            count = len(token_ids)
            batch.token_ids.extend(token_ids)
            batch.positions.extend(range(count))
            batch.seq_ids.extend([seq_id] * count)
            batch.wants_logits.extend([1] * count)
        if self._memory:
            self._lib.llama_memory_clear(self._memory, True)  # the library's own
        native.forget_complaints()
        code = self._lib.llama_decode(self._context, self._rows.fill(batch))
        if code:
            raise DecodeError(f"llama_decode returned {code}: {native.complaints() or 'no reason'}")
        self.num_calls += 1
        self.num_read_tokens += len(batch.token_ids)
        return [self._vector(seq_id) for seq_id in range(len(inputs))]

    def _vector(self, seq_id: int) -> Vector:
        pointer = self._lib.llama_get_embeddings_seq(self._context, seq_id)
        if not pointer:
            raise DecodeError("the model returned no vector for an input")
        return np.ctypeslib.as_array(pointer, shape=(self.num_dimensions,)).copy()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineClosedError("the engine is closed")

    def close(self) -> None:
        """Wait for the batch that runs, free the model; a second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self._executor.shutdown()
        self._lib.llama_free(self._context)
        self._lib.llama_model_free(self._handle)


def _batches(inputs: Sequence[Sequence[int]], rows: int) -> list[list[Sequence[int]]]:
    """Put inputs together, in order, as far as the rows of a call go."""
    batches: list[list[Sequence[int]]] = []
    room = 0
    for token_ids in inputs:
        if len(token_ids) > room or len(batches[-1]) == MAX_INPUTS:
            batches.append([])
            room = rows
        batches[-1].append(token_ids)
        room -= len(token_ids)
    return batches


def _context(handle: Any, sized: Sized) -> Any:
    """Create the context. An input is computed in one piece: pooling looks at all of it."""
    lib, config = native.library(), sized.config
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = config.context_length
    params.n_seq_max = MAX_INPUTS
    params.n_threads = params.n_threads_batch = config.threads or machine.num_cores()
    params.embeddings = True
    params.pooling_type = sized.pooling_type
    params.flash_attn_type = int(config.flash_attention)
    params.kv_unified = params.no_perf = True
    native.forget_complaints()
    context = lib.llama_init_from_model(handle, params)
    if not context:
        raise ContextTooLargeError(
            f"no context of {config.context_length} tokens could be created: "
            f"{native.complaints() or 'no reason given'}; use --context-length"
        )
    return context
