"""The face of the engine: load a model, submit prompts, read answers, look at figures.

Knows neither HTTP nor chat. The context itself is touched by the worker thread alone; everything
here may be called from an event loop's thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from serve.engine import machine
from serve.engine.admission import Places, check_token_ids, checked
from serve.engine.config import EngineConfig
from serve.engine.constraints import Constraints
from serve.engine.context import computes_on_gpu
from serve.engine.crowding import Crowding
from serve.engine.decode_times import DecodeTimes
from serve.engine.disk_tier import DiskTier
from serve.engine.drafts import Drafter
from serve.engine.errors import EngineClosedError, EngineError
from serve.engine.generation import Generation
from serve.engine.healing import Healing, Spellings
from serve.engine.identity import cache_identity
from serve.engine.keeper import Keeper
from serve.engine.lane import Lane
from serve.engine.model import Model
from serve.engine.model_info import ModelInfo
from serve.engine.prefix_cache import PrefixCache
from serve.engine.scheduler import Limits, Scheduler
from serve.engine.sequence import Sequence
from serve.engine.slots import SlotTable
from serve.engine.speculation import Speculation
from serve.engine.stats import EngineStats, slot_stats
from serve.engine.wake import wake
from serve.engine.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Sequence as Many

    from serve.engine.chunking import RowCosts
    from serve.engine.compute import ComputeThread
    from serve.engine.constraint import ConstraintState
    from serve.engine.request import AdapterMix, Constraint, GenerationRequest

__all__ = ["Engine", "EngineConfig", "Generation", "ModelInfo"]

MOST_CACHE_BYTES = 512 * 2**20


def _say_nothing(_text: str) -> None:
    """Leave the caller without news."""


class Engine:
    """A loaded model and its worker. Make it with `Engine.load`, end it with `close`."""

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        costs: RowCosts,
        compute: ComputeThread | None = None,
    ) -> None:
        self.model_info: ModelInfo = model.info
        self._model = model
        self._config = config
        self._vocabulary = model.vocabulary
        self._spellings = Spellings(model.vocabulary.text_bytes, model.vocabulary.size)
        self._constraints = Constraints(model.vocabulary.constraint_tokenizer)
        n_general = max(model.info.n_slots - config.fim_slots, 1)
        limits = Limits(
            max_rows=model.n_batch,
            n_cells=model.info.n_cells,
            num_general=n_general,
            aging_seconds=config.aging_seconds,
        )
        slots = SlotTable(
            model.info.n_slots,
            can_trim=model.can_trim,
            can_trim_restored=model.can_trim_restored,
        )
        can_trim = model.can_trim_restored
        disk = _open_disk_tier(config, model.info, can_trim=can_trim)
        self._cache = PrefixCache(_cache_bytes(config), can_trim=can_trim, disk=disk)
        if compute is not None:
            costs.others_compute = lambda: compute.is_busy
        self._scheduler = Scheduler(slots, costs, limits, self._cache)
        keeper = Keeper(model, slots, self._cache, config.cache_demote_seconds)
        speculation = Speculation(_decode_times(model.info), model.n_batch)
        self._crowding = _crowding(model, config)
        self._worker = Worker(
            model,
            self._scheduler,
            keeper,
            speculation=speculation,
            crowding=self._crowding,
            clock=time.monotonic,
        )
        self._places = Places(model.info.n_slots, config.queue_limit, self._worker.counters)
        self._lock = threading.Lock()
        self._is_closed = False

    @classmethod
    def load(
        cls,
        config: EngineConfig,
        note: Callable[[str], None] = _say_nothing,
        compute: ComputeThread | None = None,
    ) -> Engine:
        """Load the model, wake it, start the worker; `note` is told what takes long.

        `compute` is given where several engines share the machine.

        Blocks for a second or more. Raises: ModelLoadError, ContextTooLargeError,
        CacheFolderError, DecodeError.
        """
        model = Model.load(config, compute)
        try:
            engine = cls(model, config, wake(model, config, note), compute)
        except EngineError:
            model.close()
            raise
        engine._worker.start(engine._places.give_back)
        return engine

    @property
    def failure(self) -> str | None:
        """Say why the worker died; None while it lives. For health checks."""
        return self._worker.failure

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Encode; `add_special` adds BOS where the model wants one. Any thread.

        Raises: EngineClosedError.
        """
        self._check_open()
        return self._vocabulary.tokenize(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, token_ids: Many[int], *, special: bool = True) -> str:
        """Decode; `special` shows control tokens. Any thread. Raises: InvalidSamplingError."""
        self._check_open()
        check_token_ids(token_ids, self.model_info.n_vocab)
        return self._vocabulary.detokenize(token_ids, special=special)

    def token_bytes(self, token_id: int) -> bytes:
        """Return one token as it reads, control tokens by name. Raises: InvalidSamplingError."""
        self._check_open()
        check_token_ids((token_id,), self.model_info.n_vocab)
        return self._vocabulary.token_bytes(token_id)

    def is_control(self, token_id: int) -> bool:
        """Say whether a token is a mark and no text. Raises: InvalidSamplingError."""
        self._check_open()
        check_token_ids((token_id,), self.model_info.n_vocab)
        return not self._vocabulary.text_bytes(token_id)

    def prepare(self, constraint: Constraint) -> None:
        """Compile a constraint, so that `submit` need not; takes milliseconds, up to some 100.

        The first one makes a table of the vocabulary as well: 0.3 s for 50,000 tokens. Any thread,
        best not an event loop's. Raises: InvalidConstraintError, EngineClosedError.
        """
        self._constraints.prepare(constraint)

    def submit(self, request: GenerationRequest) -> Generation:
        """Queue a request; call it from the event loop that will read the answer.

        An empty prompt is read as the token that begins a text. The same seed gives the same text
        as long as the prompt is read in the same way; a prompt found in the cache, read in other
        chunks or spread over other cells moves logits in their last digits, which may turn a draw.
        Raises: PromptTooLongError, QueueFullError, InvalidSamplingError, UnknownAdapterError,
        InvalidConstraintError, EngineClosedError.
        """
        request = checked(request, self._model)
        constraint = self._constraints.start(request.constraint) if request.constraint else None
        sequence = Sequence(
            request, context_length=self.model_info.context_length, now=time.monotonic()
        )
        generation = Generation(
            sequence,
            asyncio.get_running_loop(),
            event_limit=self._config.event_queue_limit,
            wake_worker=self._worker.wake,
        )
        drafter = self._drafter(sequence, constraint)
        healing = Healing(self._spellings, request.begins_with) if request.begins_with else None
        lane = Lane(
            generation,
            self._vocabulary,
            self.model_info.eog_token_ids,
            constraint,
            drafter,
            healing=healing,
        )
        self._places.take()
        try:
            self._worker.submit(lane)
        except EngineClosedError:
            self._places.give_back()
            raise
        return generation

    def _drafter(self, sequence: Sequence, constraint: ConstraintState | None) -> Drafter | None:
        """Guesses that did not come true have to be cut, which some memory does not allow."""
        if self._config.drafts and self._model.can_trim and sequence.request.drafts:
            return Drafter(sequence, constraint)
        return None

    def num_ready(self, token_ids: Many[int], *, scope: str = "", adapters: AdapterMix = ()) -> int:
        """Count the leading tokens that need not be read, in any tier; any thread.

        A guess that a step may overtake: for choosing between prompts, not for counting.
        """
        asked = list(token_ids)
        mix = self._model.adapters.check(adapters)
        scope = self._model.adapters.scope(scope, mix)
        resident = self._scheduler.slots.num_ready(asked, scope)
        stored = self._cache.match(asked, scope, self.model_info.n_cells)
        return max(resident, stored.num_tokens if stored is not None else 0)

    def _check_open(self) -> None:
        """The vocabulary dies with the model."""
        if self._is_closed:
            raise EngineClosedError("the engine is closed")

    def stats(self) -> EngineStats:
        """Take a snapshot; any thread, any time, a step behind at most."""
        slots, disk = slot_stats(self._scheduler.slots), self._cache.disk
        return EngineStats(
            slots=slots,
            num_waiting=self._places.num_taken - len(self._scheduler.running),
            num_running=len(self._scheduler.running),
            num_cells=self.model_info.n_cells,
            num_held_tokens=sum(slot.num_held_tokens for slot in slots),
            preemptions=self._scheduler.num_preemptions,
            compute_threads=self._crowding.threads,
            seconds_per_prompt_row=self._scheduler.costs.seconds_per_row,
            cache_memory_bytes=self._cache.num_bytes,
            cache_memory_evictions=self._cache.evictions,
            cache_disk_bytes=0 if disk is None else disk.num_bytes,
            cache_disk_evictions=0 if disk is None else disk.evictions,
            **self._worker.counters.as_dict(),
        )

    def purge_cache(self) -> None:
        """Forget every prefix that nobody uses, on the disk too, within a step; any thread."""
        self._worker.purge()

    def close(self) -> None:
        """Stop what runs, end every answer, free the model; a second call does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._worker.close()
        self._constraints.close()
        self._model.close()


def _decode_times(info: ModelInfo) -> DecodeTimes:
    """Begin with the curve measured here, where one was."""
    return DecodeTimes(info.tuning.row_seconds if info.tuning else None)


def _crowding(model: Model, config: EngineConfig) -> Crowding:
    """Give threads up on a busy machine, unless a number is configured or a GPU computes."""
    threads, tuning = model.info.threads, model.info.tuning
    for_several = tuning.threads_batch if tuning else threads
    is_fixed = config.threads is not None or computes_on_gpu(config)
    return Crowding(
        lambda most: model.set_threads(min(threads, most), min(for_several, most)),
        1 if is_fixed else max(threads, for_several),
    )


def _open_disk_tier(config: EngineConfig, info: ModelInfo, *, can_trim: bool) -> DiskTier | None:
    """Open the folder, when there is to be one. Raises: CacheFolderError."""
    if config.cache_folder is None or not config.cache_disk_bytes:
        return None
    folder, identity = Path(config.cache_folder), cache_identity(config, info.runtime)
    return DiskTier(folder.expanduser(), config.cache_disk_bytes, identity, can_trim=can_trim)


def _cache_bytes(config: EngineConfig) -> int:
    """Return the bound of the memory tier: see `EngineConfig.cache_memory_bytes`."""
    if config.cache_memory_bytes is not None:
        return config.cache_memory_bytes
    free_bytes = machine.available_memory_bytes()
    share = MOST_CACHE_BYTES if free_bytes is None else free_bytes // 8
    return min(share, MOST_CACHE_BYTES)
