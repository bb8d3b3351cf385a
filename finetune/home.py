"""Where runs live: `EDGESMITH_HOME`, else here when `./runs` exists, else the user's data folder.

Knows no stage.
"""

import os
from pathlib import Path

import platformdirs

APPLICATION = "edgesmith"


def runs_root() -> tuple[Path, str]:
    """Return the absolute folder that holds all runs, and why it was chosen."""
    chosen = os.environ.get("EDGESMITH_HOME")
    if chosen:
        return Path(chosen).expanduser().resolve() / "runs", "EDGESMITH_HOME"
    if Path("runs").is_dir():
        return Path("runs").resolve(), "./runs exists"
    return Path(platformdirs.user_data_dir(APPLICATION)) / "runs", "user data directory"


def cache_folder(*parts: str) -> Path:
    """Return a folder below the user's cache; nothing is created."""
    return Path(platformdirs.user_cache_dir(APPLICATION), *parts)
