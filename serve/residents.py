"""Which models are in memory: loaded when first asked for, within one budget, gone when left idle.

Knows names, bytes and leases; neither what a model is nor HTTP. Belongs to one event loop, whose
threads load and close; only `close` is called from elsewhere.

    unloaded ──lease──▶ loading ──▶ loaded ◀──lease / release──▶ loaded, idle ──time or need──▶ gone

A model with a lease is never closed. Loads happen one after the other, so that the budget is
counted on what is there; those who ask for the same one wait for the same load.
"""

from __future__ import annotations

import asyncio
import enum
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from serve.engine.errors import EngineClosedError, ModelsBusyError, ModelTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FOREVER = float("inf")


class Closable(Protocol):
    """What can be resident."""

    def close(self) -> None:
        """Free it; nobody uses it any more."""


T = TypeVar("T", bound=Closable)


class State(enum.StrEnum):
    """Where a model stands."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"


@dataclass(slots=True, eq=False)
class _Room(Generic[T]):
    name: str
    keep_seconds: float
    value: T | None = None
    loading: asyncio.Task[None] | None = None
    num_bytes: int = 0
    num_leases: int = 0
    used_at: float = 0.0
    expires_at: float = FOREVER  # in seconds since 1970, of one that is idle
    timer: asyncio.TimerHandle | None = None


@dataclass(frozen=True, slots=True)
class Resident(Generic[T]):
    """A model in memory, as others see it. `expires_at` is in seconds since 1970."""

    name: str
    value: T
    num_bytes: int
    expires_at: float


class Residents(Generic[T]):
    """Lends models by name and keeps what they take within `budget_bytes`.

    `open_model` loads one, in a thread; `size_of` says beforehand what it will take.
    `keep_seconds` is how long an idle one stays when its last user said nothing.
    """

    def __init__(
        self,
        open_model: Callable[[str], T],
        size_of: Callable[[str], int],
        *,
        budget_bytes: int,
        keep_seconds: float,
    ) -> None:
        self.budget_bytes = budget_bytes
        self._open = open_model
        self._size_of = size_of
        self._keep_seconds = keep_seconds
        self._rooms: dict[str, _Room[T]] = {}
        self._lock = asyncio.Lock()  # one load or unload at a time
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = threading.Event()
        self.is_fixed = False  # what is there stays

    @classmethod
    def of_one(cls, name: str, value: T) -> Residents[T]:
        """Return a residents with one model that stays."""
        residents = cls(lambda _: value, lambda _: 0, budget_bytes=0, keep_seconds=FOREVER)
        residents._rooms[name] = _Room(name, FOREVER, value=value)
        residents.is_fixed = True
        return residents

    @property
    def num_bytes(self) -> int:
        """Return what all that is loaded or being loaded takes."""
        return sum(room.num_bytes for room in self._rooms.values())

    def state(self, name: str) -> State:
        """Say where a model stands."""
        room = self._rooms.get(name)
        if room is not None and room.value is not None:
            return State.LOADED
        is_loading = room is not None and room.loading is not None
        return State.LOADING if is_loading else State.UNLOADED

    def loaded(self) -> list[Resident[T]]:
        """Return the models in memory, the last used first."""
        rooms = [room for room in self._rooms.values() if room.value is not None]
        rooms.sort(key=lambda room: room.used_at, reverse=True)
        return [
            Resident(room.name, room.value, room.num_bytes, room.expires_at)
            for room in rooms
            if room.value is not None
        ]

    def peek(self, name: str) -> T | None:
        """Return a model when it is in memory, without a lease."""
        room = self._rooms.get(name)
        return None if room is None else room.value

    async def lease(self, name: str) -> T:
        """Return a model, loaded if need be; give it back with `release`.

        Raises: ModelTooLargeError, ModelsBusyError, EngineClosedError, and what loading raises.
        """
        room = self._rooms.setdefault(name, _Room(name, self._keep_seconds))
        room.num_leases += 1
        self._stop_timer(room)
        try:
            while room.value is None:
                await self._loaded(room)
        except BaseException:
            self._leave(room)
            raise
        return room.value

    def release(self, name: str, keep_seconds: float | None = None) -> None:
        """End a lease; the last user's `keep_seconds` say how long the model stays idle."""
        room = self._rooms[name]
        room.used_at = time.time()
        room.keep_seconds = self._keep_seconds if keep_seconds is None else keep_seconds
        self._leave(room)

    def _leave(self, room: _Room[T]) -> None:
        room.num_leases -= 1
        if not room.num_leases and room.value is not None:
            self._start_timer(room)

    def drop(self, name: str) -> None:
        """Unload a model soon, unless someone uses it."""
        room = self._rooms.get(name)
        if room is not None and not self.is_fixed:
            self._unload_soon(room)

    def close(self) -> None:
        """Close every model; any thread, once the event loop serves no one."""
        self._closed.set()
        for room in list(self._rooms.values()):
            if room.value is not None:
                room.value.close()

    async def _loaded(self, room: _Room[T]) -> None:
        """Wait for the one load of a room, whoever began it."""
        if room.loading is None:
            room.loading = self._spawn(self._load(room))
        await asyncio.shield(room.loading)

    async def _load(self, room: _Room[T]) -> None:
        try:
            async with self._lock:
                await self._make_room(room)
                room.value = await asyncio.to_thread(self._open_unless_closed, room.name)
        except BaseException:
            room.num_bytes = 0
            raise
        finally:
            room.loading = None
        if not room.num_leases:
            self._start_timer(room)

    def _open_unless_closed(self, name: str) -> T:
        if self._closed.is_set():
            raise EngineClosedError("the server is shutting down")
        value = self._open(name)
        if self._closed.is_set():
            value.close()
            raise EngineClosedError("the server is shutting down")
        return value

    async def _make_room(self, room: _Room[T]) -> None:
        """Count a room in; idle models go, the least recently used first."""
        need = await asyncio.to_thread(self._size_of, room.name)
        if need > self.budget_bytes:
            raise ModelTooLargeError(room.name, need, self.budget_bytes)
        while self.num_bytes + need > self.budget_bytes:
            idle = [r for r in self._rooms.values() if r.value is not None and not r.num_leases]
            if not idle:
                raise ModelsBusyError(room.name, need, self.budget_bytes, self.num_bytes)
            await self._close_room(min(idle, key=lambda each: each.used_at))
        room.num_bytes = need

    def _unload_soon(self, room: _Room[T]) -> None:
        """Begin to unload; not at the very end, when nothing waits for it and all is closed."""
        if not self._closed.is_set():
            self._spawn(self._unload(room))

    async def _unload(self, room: _Room[T]) -> None:
        async with self._lock:
            if room.value is not None and not room.num_leases:
                await self._close_room(room)

    async def _close_room(self, room: _Room[T]) -> None:
        """Close an idle model; who asks for it meanwhile loads it anew."""
        value, room.value = room.value, None
        self._stop_timer(room)
        if value is not None:
            await asyncio.to_thread(value.close)
        room.num_bytes = 0

    def _start_timer(self, room: _Room[T]) -> None:
        self._stop_timer(room)
        if self.is_fixed or room.keep_seconds == FOREVER:
            return
        room.expires_at = time.time() + room.keep_seconds
        if room.keep_seconds <= 0:
            self._unload_soon(room)
            return
        loop = asyncio.get_running_loop()
        room.timer = loop.call_later(room.keep_seconds, self._unload_soon, room)

    @staticmethod
    def _stop_timer(room: _Room[T]) -> None:
        if room.timer is not None:
            room.timer.cancel()
        room.timer, room.expires_at = None, FOREVER

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Look at the outcome: whoever waited has it, or nobody waits any more."""
        self._tasks.discard(task)
        with suppress(asyncio.CancelledError):
            task.exception()
