"""What the engine can be told. Every default has its reason here.

Knows no command line and no file format; `serve.config` embeds this struct in its own tree.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

KvType = Literal["f16", "q8_0", "q4_0"]
LoadMode = Literal["mmap", "read", "mlock"]

MAX_SEATS = 256  # llama.cpp's LLAMA_MAX_SEQ


class AdapterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A LoRA adapter of the model, as a GGUF. A request that names it gets it with `scale`."""

    name: str
    file: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        """Check ranges. Raises: ValueError."""
        if not self.name:
            raise ValueError("an adapter needs a name for requests to choose it by")
        if not math.isfinite(self.scale):
            raise ValueError(f"the scale of adapter {self.name} is {self.scale}; it must be finite")


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model is served.

    `context_length`: tokens per sequence. None is the model's trained length, at most 8192 (chats
    and the 3k-token prompts of editors fit; more costs memory, so more has to be asked for) and at
    most what memory allows.
    `slots`: chat and completion sequences that decode side by side. None is twice the cores,
    within 8 to 16: with repacked weights eight rows of two cores write 1.4 times what four do.
    `fim_slots`: seats on top of `slots` that only fill-in-the-middle requests may take, so that
    a keystroke finds one at any time.
    `kv_cells`: tokens that all sequences together may hold. None is half of the slots' full
    contexts, at least four of them, at most a quarter of the free memory, at least one context.
    `kv_type`: f16 is exact; q8_0 halves the KV memory and slows prefill by about 10%; q4_0 costs
    quality.
    `memory_bytes`: most of this machine's memory that the file, its cells, its cache and the work
    on them may take. None is what is free.
    `threads`: None is what was measured to be best, else one per physical core, and fewer for as
    long as other programs want those cores; a number is taken as it is.
    `n_gpu_layers`: None is all when the build has a GPU.
    `load_mode`: mmap starts fastest and shares pages; read copies; mlock pins.
    `repack`: rearrange weights for the CPU at load: 1.3-1.6 times faster batches for more memory.
    `n_batch`: most rows of one decode call, so the longest prefill chunk. None is 256 on a CPU,
    where chunks beyond 128 are no faster, and 512 with layers on a GPU, which they fill; the
    compute buffer grows with it.
    `drafts`: guess what comes next from a request's prediction, its prompt and its own output, and
    check several guesses in one call when that pays. Answers stay the same.
    `queue_limit`: requests that may wait for a seat before newcomers are refused.
    `event_queue_limit`: undelivered events after which a stalled reader is cancelled.
    `aging_seconds`: a prefill unserved for this long rises one class; see `scheduler`.
    `cache_memory_bytes`: for prefixes that left the KV cache, so that they are not read again.
    None is an eighth of the memory that is free after loading, at most 512 MiB: some 18k tokens of
    a 1.5B model, the few files and chats that one person has open. 0 turns it off.
    `cache_demote_seconds`: a prefix nobody uses leaves the KV cache after this long, the pause
    between two keystrokes, since it slows every step of the others while it stays.
    `cache_folder`: where prefixes outlive the process, in files that only their owner may read.
    None writes none. `python -m serve` chooses the user's cache, so that a restart loses nothing:
    what was typed can be read out of such files, as out of an editor's history. `--no-disk-cache`
    turns it off, `python -m serve purge` deletes them.
    `tuning_folder`: where figures measured on this machine are kept: threads, and what rows cost.
    A model that has none there is measured when it is loaded, for some seconds. None measures
    nothing.
    `cache_disk_bytes`: the bound of that folder, other models' files included; twice what a long
    session of a 1.5B model leaves.
    `adapters`: LoRA files that requests may choose; a loaded one costs its bytes and nothing else
    until it is chosen.
    """

    model: str
    context_length: int | None = None
    slots: int | None = None
    fim_slots: int = 1
    kv_cells: int | None = None
    kv_type: KvType = "f16"
    memory_bytes: int | None = None
    threads: int | None = None
    n_gpu_layers: int | None = None
    flash_attention: bool = True
    load_mode: LoadMode = "mmap"
    repack: bool = True
    n_batch: int | None = None
    drafts: bool = True
    queue_limit: int = 64
    event_queue_limit: int = 1024
    aging_seconds: float = 2.0
    cache_memory_bytes: int | None = None
    cache_demote_seconds: float = 2.0
    cache_folder: str | None = None
    cache_disk_bytes: int = 2 * 2**30
    adapters: tuple[AdapterConfig, ...] = ()
    tuning_folder: str | None = None

    def __post_init__(self) -> None:
        """Check ranges. Raises: ValueError naming field, value and limit."""
        for name in ("context_length", "slots", "kv_cells", "memory_bytes", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        if self.fim_slots < 0 or self.queue_limit < 0:
            raise ValueError("fim_slots and queue_limit must not be negative")
        if self.event_queue_limit < 2 or self.aging_seconds <= 0:
            raise ValueError("event_queue_limit must be at least 2 and aging_seconds positive")
        self._check_cache()
        seats = (self.slots or 1) + self.fim_slots
        if seats > MAX_SEATS:
            raise ValueError(f"slots + fim_slots is {seats}; llama.cpp has {MAX_SEATS} sequences")
        if self.n_batch is not None and self.n_batch < max(seats, 32):
            raise ValueError(
                f"n_batch is {self.n_batch}; it must hold a row per seat ({seats}) and at least 32"
            )
        if self.kv_type != "f16" and not self.flash_attention:
            raise ValueError(f"kv_type {self.kv_type} needs flash_attention")

    def _check_cache(self) -> None:
        for name in ("cache_memory_bytes", "cache_demote_seconds", "cache_disk_bytes"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} is {value}; it must not be negative")
        if self.cache_folder is not None and self.cache_memory_bytes == 0:
            raise ValueError(
                "cache_folder is filled from memory and cache_memory_bytes is 0; "
                "raise it or leave cache_folder out"
            )
