"""Where prefixes outlive the server, and `python -m serve purge`, which deletes them.

Knows the folder and the names of its files, not what is in them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from serve import config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve.engine.config import EngineConfig

_PATTERNS = ("*/*.state", "*/*.tmp")


def main(arguments: Sequence[str]) -> int:
    """Delete every stored prefix and say how much that was. Raises: ConfigError."""
    args = _parser().parse_args(arguments)
    settings = config.load(args.config, args.set)
    folder = cache_folder(settings.engine, os.environ)
    num_files, num_bytes = purge(folder)
    print(f"deleted {num_files} files, {num_bytes / 2**20:.1f} MiB, from {folder}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serve purge",
        description="Delete the prompts that servers keep over restarts, of every model. A server "
        "that runs goes on; it keeps what is in its memory.",
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="the server's TOML file")
    add("--set", action="append", default=[], metavar="A.B=V", help="override one setting")
    return parser


def with_cache_folder(engine: EngineConfig, environment: Mapping[str, str]) -> EngineConfig:
    """Return the configuration with the folder in it, unless either tier is turned off."""
    if engine.cache_disk_bytes == 0 or engine.cache_memory_bytes == 0:
        return engine
    folder = str(cache_folder(engine, environment))
    return msgspec.structs.replace(engine, cache_folder=folder)


def cache_folder(engine: EngineConfig, environment: Mapping[str, str]) -> Path:
    """Return the configured folder, else one in $EDGESMITH_HOME or the user's cache."""
    if engine.cache_folder is not None:
        return Path(engine.cache_folder).expanduser()
    if home := environment.get("EDGESMITH_HOME"):
        return Path(home).expanduser() / "cache" / "prefixes"
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("edgesmith", appauthor=False)) / "prefixes"


def purge(folder: Path) -> tuple[int, int]:
    """Delete what is stored below a folder; return how many files and bytes that were."""
    num_files = num_bytes = 0
    for path in (path for pattern in _PATTERNS for path in folder.glob(pattern)):
        with contextlib.suppress(FileNotFoundError):  # a server may be as quick
            size = path.stat().st_size
            path.unlink()
            num_files, num_bytes = num_files + 1, num_bytes + size
    return num_files, num_bytes
