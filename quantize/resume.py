"""What an interrupted run had finished: each whole file and its hash, and a lock on the directory.

A file is listed only after it stands under its final name, and is trusted again only when its
bytes still have the listed hash. Whatever is not listed is made anew.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from quantize.digest import sha256_file
from quantize.errors import RunError
from quantize.run import write_json

FILE = "resume.json"
_LOCK = ".lock"


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a whole file looks like."""

    sha256: str
    size_bytes: int


class _State(msgspec.Struct, kw_only=True):
    config_hash: str
    files: dict[str, FileRecord] = {}


class Ledger:
    """List the finished files of one unfinished run."""

    def __init__(self, run: Path, config_hash: str) -> None:
        self.run = run
        self._state = _State(config_hash=config_hash)
        self._trusted: set[str] = set()
        if (run / FILE).is_file():
            self._state = _read(run / FILE)
        else:
            self._write()

    def record(self, path: Path) -> FileRecord:
        """List a file that is whole."""
        record = FileRecord(sha256=sha256_file(path), size_bytes=path.stat().st_size)
        self._state.files[self._name(path)] = record
        self._trusted.add(self._name(path))
        self._write()
        return record

    def admit(self, partial: Path, target: Path) -> FileRecord:
        """Write a whole file through to the disk, give it its name and list it."""
        with partial.open("r+b") as stream:
            os.fsync(stream.fileno())
        partial.replace(target)
        return self.record(target)

    def valid(self, path: Path) -> FileRecord | None:
        """Return a listed file's record when its bytes are still the same, else None.

        A file is read once by each process; after that its hash is taken as known.
        """
        name = self._name(path)
        record = self._state.files.get(name)
        if record is None or not path.is_file() or path.stat().st_size != record.size_bytes:
            return None
        if name not in self._trusted and sha256_file(path) != record.sha256:
            return None
        self._trusted.add(name)
        return record

    def valid_folder(self, folder: Path) -> bool:
        """Say whether a folder holds listed files only, all of them unchanged."""
        files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        return bool(files) and all(self.valid(path) for path in files)

    def finish(self) -> None:
        """Forget the list; the manifest takes its place."""
        (self.run / FILE).unlink(missing_ok=True)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.run).as_posix()

    def _write(self) -> None:
        write_json(self.run / FILE, self._state)


def belongs_to(run: Path, config_hash: str) -> bool:
    """Say whether an unfinished directory was begun with this configuration."""
    try:
        return _read(run / FILE).config_hash == config_hash
    except (OSError, msgspec.MsgspecError):
        return False


def discard_partial(run: Path) -> None:
    """Remove what a killed process left half written."""
    for path in run.glob("*.partial"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in list(run.rglob("*.tmp")):
        path.unlink()


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run directory for this process; the lock dies with the process.

    Raises:
        RunError: when another process holds it.
    """
    path = run / _LOCK
    with path.open("w") as stream:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError(f"another process is working on {run}; wait for it") from error
        stream.write(str(os.getpid()))
        yield
    path.unlink(missing_ok=True)


def _read(path: Path) -> _State:
    return msgspec.json.decode(path.read_bytes(), type=_State)
