"""What this machine is, and a short identity for it; knows nothing of models."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

from quantize.digest import sha256_json

_STATUS = Path("/proc/self/status")


def cpu_name() -> str:
    """Return the processor's name as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Return the installed memory, or None where the system does not say."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int | None:
    """Return the memory that is free to use, or None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return memory_bytes()


def own_peak_bytes() -> int | None:
    """Return this process's own peak; getrusage's also counts what the parent was before exec."""
    if not _STATUS.is_file():
        return None
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return None


def peak_bytes() -> int | None:
    """Return the highest resident memory of this process or any that it started and waited for.

    Pages of mapped files count. None where the system does not tell.
    """
    own = own_peak_bytes()
    if own is None or sys.platform == "win32":
        return own
    import resource

    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)


def hardware() -> dict[str, Any]:
    """Return the manifest's hardware record."""
    return {
        "cpu": cpu_name(),
        "num_cores": num_cores(),
        "memory_bytes": memory_bytes(),
        "gpu": None,
    }


def identity(system_info: str) -> dict[str, Any]:
    """Return the machine record of a measurement.

    `id` changes with the processor, its cores, the memory and the instruction sets that the
    library was built for (`system_info`), since each of them changes the figures.
    """
    memory = memory_bytes()
    record = {
        "cpu": cpu_name(),
        "num_cores": num_cores(),
        "memory_bytes": memory,
        "system_info": system_info,
    }
    coarse = {**record, "memory_bytes": None if memory is None else round(memory / 2**30)}
    return {"id": sha256_json(coarse)[:12], **record}
