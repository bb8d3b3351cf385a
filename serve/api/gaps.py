"""The one way from text around a cursor to a prompt, with what was read before in mind.

Keeps a planner for every scope, asks the engine what is ready, and reads in the background what an
answer had to do without. Knows no dialect; the layouts are `chat.fim_plan`'s.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from serve.api.access import CACHE_SCOPE
from serve.api.off_loop import off_loop
from serve.chat.anchors import Lack
from serve.chat.fim import fim_tokens
from serve.chat.fim_plan import FimPlanner
from serve.engine.errors import EngineClosedError, EngineError
from serve.engine.request import Finished, FinishReason, GenerationRequest, Priority

if TYPE_CHECKING:
    from serve.chat.anchors import Gap, Liberties, Way
    from serve.chat.fim import FimPrompt
    from serve.chat.fim_plan import Laid, Plan
    from serve.engine.engine import Engine
    from serve.engine.request import AdapterMix

logger = logging.getLogger(__name__)

MAX_READERS = 16
"""Scopes whose anchors are remembered; one is a key with a choice of adapters."""


class Reader:
    """What one scope has read, and what is being read for it."""

    def __init__(self, planner: FimPlanner) -> None:
        self.planner = planner
        self.lock = threading.Lock()
        self.wanted: tuple[Way, ...] = ()
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Give up what is being read; its cells stay."""
        if self.task is not None:
            self.task.cancel()
            self.task = None


class Gaps:
    """Lays gaps out for one engine. Routes call it from the event loop."""

    def __init__(self, engine: Engine, liberties: Liberties) -> None:
        self._engine = engine
        self._liberties = liberties
        self._lock = threading.Lock()  # guards the readers
        self._is_closed = False
        self._readers: OrderedDict[tuple[str, AdapterMix], Reader] = OrderedDict()

    async def lay_out(
        self,
        gap: Gap,
        *,
        max_tokens: int,
        prompt_ms: float | None = None,
        has_wish: bool = True,
        adapters: AdapterMix = (),
    ) -> FimPrompt:
        """Return the prompt; `prompt_ms` is an editor's wish, None for the configured one.

        Without a wish all of it is read, however long that takes.

        Raises:
            NoFimError: the model cannot fill in the middle.
        """
        key = (CACHE_SCOPE.get(), adapters)
        reader = self._reader(key)
        size = len(gap.before) + len(gap.after) + sum(len(each.text) for each in gap.extra)
        budget = self._budget(prompt_ms) if has_wish else None
        plan = await off_loop(size, lambda: _plan(reader, gap, max_tokens, budget))
        self._read_later(reader, key, plan, max_tokens)
        return plan.now.prompt

    def prompt(self, gap: Gap, *, adapters: AdapterMix = ()) -> FimPrompt:
        """Return the whole prompt, for routes whose clients have no wish; any thread.

        Raises:
            NoFimError: the model cannot fill in the middle.
        """
        reader = self._reader((CACHE_SCOPE.get(), adapters))
        return _plan(reader, gap, None, None).now.prompt

    def _reader(self, key: tuple[str, AdapterMix]) -> Reader:
        with self._lock:
            if key not in self._readers:
                self._readers[key] = self._new_reader(key)
            self._readers.move_to_end(key)
            if len(self._readers) > MAX_READERS:
                self._readers.popitem(last=False)
            return self._readers[key]

    def _new_reader(self, key: tuple[str, AdapterMix]) -> Reader:
        scope, adapters = key
        ready = partial(self._engine.num_ready, scope=scope, adapters=adapters)
        tokenize = partial(self._engine.tokenize, add_special=False, parse_special=False)
        tokens = fim_tokens(self._engine.model_info)
        return Reader(FimPlanner(tokens, tokenize, self._liberties, ready))

    def _budget(self, prompt_ms: float | None) -> int | None:
        """Return the rows that this machine reads in that time; None before it was measured."""
        seconds = self._engine.stats().seconds_per_prompt_row
        wish = self._liberties.prompt_ms if prompt_ms is None else prompt_ms
        if wish is None or not seconds:
            return None
        return int(wish / 1000 / seconds)

    def _read_later(
        self, reader: Reader, key: tuple[str, AdapterMix], plan: Plan, max_tokens: int
    ) -> None:
        """Begin anew only when something else is wanted: typing does not change that."""
        same = len(plan.later) == len(reader.wanted) and all(
            new.is_at(old) for new, old in zip(plan.later, reader.wanted, strict=False)
        )
        if same and reader.task is not None and not reader.task.done():
            return
        reader.stop()
        reader.wanted = plan.later
        if plan.later:
            reader.task = asyncio.create_task(self._read(reader, key, plan.later, max_tokens))

    async def _read(
        self, reader: Reader, key: tuple[str, AdapterMix], ways: tuple[Way, ...], max_tokens: int
    ) -> None:
        for way in ways:
            if way.lack is not Lack.MUCH:
                await asyncio.sleep(self._liberties.pause_seconds)
            try:
                laid = await asyncio.to_thread(self._lay, reader, way, max_tokens)
                is_read = await self._prefill(laid, key)
            except EngineError as error:
                logger.info("nothing is read in the background: %s", error)
                return
            if is_read:
                with reader.lock:
                    reader.planner.remember(way)

    def _lay(self, reader: Reader, way: Way, max_tokens: int) -> Laid:
        with reader.lock:
            if self._is_closed:
                raise EngineClosedError("the model was unloaded")
            return reader.planner.lay(way, max_tokens)

    def close(self) -> None:
        """Let what reads in the background end before the vocabulary goes; any thread."""
        self._is_closed = True
        with self._lock:
            readers = list(self._readers.values())
        for reader in readers:
            with reader.lock:  # whoever has it still tokenizes
                pass

    async def _prefill(self, laid: Laid, key: tuple[str, AdapterMix]) -> bool:
        """Read; the lines near the cursor are wanted while someone types, the rest in a pause."""
        scope, adapters = key
        is_near = laid.way.lack is Lack.MUCH
        request = GenerationRequest(
            prompt_token_ids=laid.prompt.token_ids,
            max_tokens=0,
            priority=Priority.INTERACTIVE if is_near else Priority.BACKGROUND,
            cache_scope=scope,
            adapters=adapters,
            request_id="background",
        )
        generation = self._engine.submit(request)
        try:
            async for event in generation:
                if isinstance(event, Finished):
                    return event.reason in {FinishReason.STOP, FinishReason.LENGTH}
        finally:
            generation.cancel()
        return False


def _plan(reader: Reader, gap: Gap, max_tokens: int | None, budget: int | None) -> Plan:
    with reader.lock:
        return reader.planner.plan(gap, max_tokens=max_tokens, budget=budget)
