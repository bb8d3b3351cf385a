"""What this machine offers: memory that can be had now, and cores worth a thread each.

Knows nothing of models. Figures that the system does not tell are None, never a guess.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_memory_bytes() -> int | None:
    """Return what a process may still take, cgroup limit included; None where unknown."""
    figures = [figure for figure in (_meminfo_available(), _cgroup_available()) if figure]
    return min(figures) if figures else None


def _meminfo_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return _free_pages_bytes()
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free_pages_bytes() -> int | None:
    """Ask POSIX, as on macOS; there it is the installed memory, the best there is without tools."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _cgroup_available() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = (_CGROUP / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return None if limit == "max" else max(int(limit) - int(used), 0)


def num_cores() -> int:
    """Count physical cores this process may run on, within its CPU quota; at least 1.

    Hyperthreads share the vector units that a matrix product saturates, so they do not count.
    """
    cores = {_siblings(cpu) for cpu in _allowed_cpus()}
    return _within_quota(len(cores) or os.cpu_count() or 1)


def num_hardware_threads() -> int:
    """Count hyperthreads this process may run on, within its CPU quota; at least 1."""
    return _within_quota(len(_allowed_cpus()) or os.cpu_count() or 1)


def thread_counts() -> list[int]:
    """Return numbers of compute threads worth a try, the likeliest first.

    One a core is the rule. Hyperthreads help where memory is slow; fewer threads where it is the
    memory that limits, where cores are of two kinds, or where something else runs beside us.
    """
    cores = num_cores()
    counts = (cores, num_hardware_threads(), cores - 1, cores * 3 // 4, cores // 2)
    return list(dict.fromkeys(count for count in counts if count >= 1))


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _allowed_cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _within_quota(count: int) -> int:
    quota = _cgroup_cpus()
    return max(1, min(count, quota) if quota else count)


def _siblings(cpu: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _cgroup_cpus() -> int | None:
    try:
        quota, period = (_CGROUP / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))
