"""Put changed configuration onto the disk: a backup first, then all of it or nothing."""

from __future__ import annotations

import difflib
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from clients.editors.documents import Change, edited
from clients.errors import UsageError


class Plan(msgspec.Struct, frozen=True):
    """A file, what it holds (None: it does not exist) and what it should hold."""

    file: Path
    before: str | None
    after: str

    @property
    def is_needed(self) -> bool:
        """Whether anything changes."""
        return self.before != self.after

    def diff(self) -> str:
        """Return the change as a unified diff."""
        old = (self.before or "").splitlines(keepends=True)
        new = self.after.splitlines(keepends=True)
        lines = difflib.unified_diff(old, new, str(self.file), str(self.file))
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def plan(change: Change) -> Plan:
    """Read the file and work out what it should hold.

    Raises:
        UsageError: it cannot be read.
    """
    file = change.file.resolve()  # dotfiles are often links into a repository
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            before = stream.read()
    except FileNotFoundError:
        return Plan(file, None, edited(change, ""))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {error}; nothing was changed") from None
    after = edited(change, before.replace("\r\n", "\n"))
    return Plan(file, before, after.replace("\n", "\r\n") if "\r\n" in before else after)


def apply(plan: Plan) -> Path | None:
    """Write the file; return the backup's path where there was something to keep.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        plan.file.parent.mkdir(parents=True, exist_ok=True)
        backup = None if plan.before is None else _backup(plan)
        _replace(plan)
    except OSError as error:
        raise UsageError(f"cannot write {plan.file}: {error}") from None
    return backup


def _backup(plan: Plan) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    backup = plan.file.with_name(f"{plan.file.name}.{stamp}.bak")
    backup.write_bytes(plan.file.read_bytes())
    backup.chmod(plan.file.stat().st_mode)
    return backup


def _replace(plan: Plan) -> None:
    handle, name = tempfile.mkstemp(dir=plan.file.parent, prefix=f".{plan.file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(plan.after)
        if plan.before is not None:
            temporary.chmod(plan.file.stat().st_mode)
        temporary.replace(plan.file)
    finally:
        temporary.unlink(missing_ok=True)
