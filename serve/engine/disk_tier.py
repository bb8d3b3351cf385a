"""A bounded folder of stored prefixes that outlives the process.

    folder/<identity>/<scope and tokens>.state      one folder per model, build and KV layout

Files of other identities count against the bound and go first when they are the oldest. One
thread writes; it sees bytes, never llama. Knows neither seats nor the worth of what is in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

from serve.engine.errors import CacheFolderError, DamagedStateError
from serve.engine.prefix import StateFile, covers, gives_way, scope_digest
from serve.engine.state_file import StateHeader, read_header, read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve.engine.prefix import Prefix, State

logger = logging.getLogger(__name__)

_PRIVATE = 0o700
_ABANDONED_SECONDS = 3600.0  # an unfinished file this old has lost its writer


class DiskTier:
    """The files below `folder`, at most `capacity_bytes` together."""

    def __init__(
        self, folder: Path, capacity_bytes: int, identity: str, *, can_trim: bool = True
    ) -> None:
        """Index what is there. Raises: CacheFolderError."""
        self.capacity_bytes = capacity_bytes
        self.evictions = 0
        self._identity = identity
        self._root = folder
        self._folder = folder / identity
        self._can_trim = can_trim
        self._lock = threading.Lock()  # guards the index and the epoch
        self._epoch = 0  # of the last purge
        self._files: dict[Path, StateFile] = {}
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        _make_private(self._folder)
        self._index()
        self._writer = threading.Thread(target=self._run, name="prefix-writer", daemon=True)
        self._writer.start()

    @property
    def files(self) -> list[StateFile]:
        """Return the files as they are now."""
        with self._lock:
            return list(self._files.values())

    @property
    def num_bytes(self) -> int:
        """Return the bytes of all files."""
        with self._lock:
            return self._total()

    def _total(self) -> int:
        return sum(file.num_bytes for file in self._files.values())

    def _index(self) -> None:
        for path in self._root.glob("*/*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
        for path in self._root.glob("*/*.state"):
            try:
                self._files[path] = self._describe(path)
            except DamagedStateError as error:
                self._drop_damaged(path, error)
            except OSError as error:
                logger.warning("a stored prefix cannot be read: %s", error)
        self._make_room(0)

    def _describe(self, path: Path) -> StateFile:
        stat = path.stat()
        file = StateFile(path, stat.st_size, stat.st_mtime)
        if path.parent != self._folder:
            return file
        header = read_header(path)
        if header.identity != self._identity:
            raise DamagedStateError(f"{path} says it belongs to another model")
        file.scope, file.token_ids = header.scope, header.token_ids
        return file

    def load(self, file: StateFile) -> State | None:
        """Return a file's state; a damaged one is dropped with a warning."""
        try:
            state = read_state(file.path)
            os.utime(file.path)
        except DamagedStateError as error:
            self._drop_damaged(file.path, error)
            return None
        except FileNotFoundError:
            self._forget(file.path)
            return None
        except (OSError, MemoryError) as error:
            logger.warning("a stored prefix cannot be read: %s", error)
            return None
        file.used_at = time.time()
        return state

    def _drop_damaged(self, path: Path, error: DamagedStateError) -> None:
        logger.warning("a stored prefix is damaged and dropped: %s", error)
        self._forget(path)
        with contextlib.suppress(OSError):
            path.unlink()

    def _forget(self, path: Path) -> None:
        with self._lock:
            self._files.pop(path, None)

    def write(self, prefix: Prefix, on_done: Callable[[], None]) -> None:
        """Queue a prefix for the writer, which calls `on_done` whatever became of it."""
        epoch = self._epoch

        def job() -> None:
            try:
                self._store(prefix, epoch)
            except OSError as error:
                logger.warning("a prefix could not be stored: %s", error)
            finally:
                on_done()

        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _store(self, prefix: Prefix, epoch: int) -> None:
        """Write one file, unless its tokens are on the disk already; writer thread only."""
        scope, token_ids = scope_digest(prefix.scope), prefix.token_ids
        own = [file for file in self.files if file.scope == scope and file.token_ids]
        if epoch != self._epoch or any(
            covers(file.token_ids, token_ids, can_trim=self._can_trim) for file in own
        ):
            return
        for file in own:
            if gives_way(file.token_ids, token_ids, can_trim=self._can_trim):
                self._remove(file)
        header = StateHeader(
            identity=self._identity,
            scope=scope,
            token_ids=token_ids,
            state_bytes=prefix.num_bytes,
        )
        if not self._make_room(prefix.num_bytes + _header_room(token_ids)):
            return
        path = self._folder / f"{_name(scope, token_ids)}.state"
        num_bytes = write_state(path, header, prefix.state)
        self._enter(StateFile(path, num_bytes, time.time(), scope, token_ids), epoch)

    def _enter(self, file: StateFile, epoch: int) -> None:
        with self._lock:
            if epoch == self._epoch:
                self._files[file.path] = file
                return
        file.path.unlink(missing_ok=True)  # purged while it was written

    def _make_room(self, num_bytes: int) -> bool:
        """Remove the least recently used until `num_bytes` fit; False when they never will."""
        if num_bytes > self.capacity_bytes:
            return False
        while self.num_bytes + num_bytes > self.capacity_bytes:
            self._remove(min(self.files, key=lambda file: file.used_at))
            self.evictions += 1
        return True

    def _remove(self, file: StateFile) -> None:
        self._forget(file.path)
        with contextlib.suppress(OSError):
            file.path.unlink(missing_ok=True)

    def purge(self) -> None:
        """Delete every file, of other models too; what the writer holds is not written."""
        with self._lock:
            self._epoch += 1
        for file in self.files:
            self._remove(file)

    def close(self) -> None:
        """Wait until everything queued is on the disk."""
        self._jobs.put(None)
        self._writer.join()


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        folder.chmod(_PRIVATE)
    except OSError as error:
        raise CacheFolderError(
            f"the cache folder {folder} cannot be used: {error.strerror}; "
            "name another as cache_folder or leave it out"
        ) from error


def _header_room(token_ids: list[int]) -> int:
    """Bound what a file holds beside its state: msgpack takes at most 5 bytes a token."""
    return 5 * len(token_ids) + 512


def _name(scope: str, token_ids: list[int]) -> str:
    return hashlib.sha256(f"{scope} {token_ids}".encode()).hexdigest()[:32]
