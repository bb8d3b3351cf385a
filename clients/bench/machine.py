"""On what a comparison ran: hardware, versions, commit, model file. Measures nothing."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("edgesmith", "llama-cpp-python", "litestar", "uvicorn", "httpx")


def describe() -> dict[str, Any]:
    """Return what a reader needs to judge the figures."""
    return {
        "cpu": _cpu(),
        "num_cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version(), **_versions()},
        "git": _git(),
    }


def describe_model(file: Path) -> dict[str, Any]:
    """Return the file's name, size and SHA-256."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file": file.name, "size_bytes": file.stat().st_size, "sha256": digest}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if "model name" in line)
    return next(names, platform.machine())


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git() -> dict[str, Any]:
    """Return the checkout's commit, and whether it was changed; both null outside one."""
    commit = _git_says("rev-parse", "HEAD")
    changes = _git_says("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _git_says(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
