"""The parameters of the llama context, and their reasons.

Knows what memory was planned; decodes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve.engine import machine, native
from serve.engine.batch import MAX_DRAFT_ROWS
from serve.engine.errors import ContextTooLargeError

if TYPE_CHECKING:
    from serve.engine.config import EngineConfig
    from serve.engine.memory import ContextPlan

_GGML_TYPES = {"f16": 1, "q4_0": 2, "q8_0": 8}  # ggml.h `ggml_type`
_CPU_BATCH, _GPU_BATCH = 256, 512
_FLASH_ATTENTION = {False: 0, True: 1}  # llama.h `llama_flash_attn_type`


def default_slots() -> int:
    """Return twice the cores, within 8 to 16: see `EngineConfig.slots`."""
    return min(max(2 * machine.num_cores(), 8), 16)


def computes_on_gpu(config: EngineConfig) -> bool:
    """Say whether layers go to a GPU that is there."""
    return native.supports_gpu_offload() and config.n_gpu_layers != 0


def default_batch(config: EngineConfig) -> int:
    """Return the rows of the longest call: see `EngineConfig.n_batch`."""
    rows = _GPU_BATCH if computes_on_gpu(config) else _CPU_BATCH
    return max(rows, (config.slots or 0) + config.fim_slots)


def create_context(
    config: EngineConfig,
    handle: Any,
    plan: ContextPlan,
    *,
    n_slots: int,
    threads: int,
    abort: native.AbortFlag,
) -> Any:
    """Create the context. Raises: ContextTooLargeError when the library gets no memory."""
    lib = native.library()
    native.forget_complaints()
    params = _context_params(config, plan, n_slots=n_slots, threads=threads, abort=abort)
    context = lib.llama_init_from_model(handle, params)
    if not context:
        raise ContextTooLargeError(
            f"no context of {plan.n_cells} cells ({plan.kv_bytes / 1e9:.1f} GB of KV cache) could "
            f"be created: {native.complaints() or 'no reason given'}; use --context-length"
        )
    return context


def _context_params(
    config: EngineConfig, plan: ContextPlan, *, n_slots: int, threads: int, abort: native.AbortFlag
) -> Any:
    """Fill llama.h `llama_context_params`.

    One unified pool of cells: with flash attention masked cells are skipped, batches are never
    split by stream and any part of a sequence can be shared. `n_ubatch` equals `n_batch`, so that
    a chunk is computed, or aborted, as one.
    """
    params = native.library().llama_context_default_params()
    params.n_ctx = plan.n_cells
    params.n_batch = params.n_ubatch = config.n_batch or default_batch(config)
    params.n_seq_max = n_slots
    params.n_outputs_max = n_slots + MAX_DRAFT_ROWS
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = _FLASH_ATTENTION[config.flash_attention]
    params.type_k = params.type_v = _GGML_TYPES[config.kv_type]
    params.abort_callback = abort.callback
    params.abort_callback_data = abort.address
    params.no_perf = True
    params.swa_full = True
    params.kv_unified = True
    return params
