"""Where programs keep their configuration, on Linux, macOS and Windows. Knows no contents."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Places:
    """One user's folders; everything a test would change comes from outside."""

    def __init__(self, home: Path, platform: str, environment: Mapping[str, str]) -> None:
        self.home = home
        self._platform = platform
        self._environment = environment

    @classmethod
    def here(cls) -> Places:
        """Return the folders of who runs this."""
        return cls(Path.home(), sys.platform, os.environ)

    def dotted(self, name: str, *, variable: str = "") -> Path:
        """Return a folder of the home directory, or where the variable says it is."""
        moved = self._environment.get(variable)
        return Path(moved) if moved else self.home / name

    @property
    def config(self) -> Path:
        """Where programs keep configuration that follows the XDG rules everywhere but Windows."""
        if self._platform == "win32":
            return self._roaming
        moved = self._environment.get("XDG_CONFIG_HOME")
        return Path(moved) if moved else self.home / ".config"

    @property
    def application(self) -> Path:
        """Where desktop programs keep their data."""
        if self._platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.config

    @property
    def vscode(self) -> Path:
        """The folder of Visual Studio Code's user settings."""
        return self.application / "Code" / "User"

    @property
    def zed(self) -> Path:
        """The folder of Zed's settings."""
        return self.config / ("Zed" if self._platform == "win32" else "zed")

    @property
    def opencode(self) -> Path:
        """The folder of opencode's settings, which is the same on every system."""
        moved = self._environment.get("XDG_CONFIG_HOME")
        return (Path(moved) if moved else self.home / ".config") / "opencode"

    @property
    def llm(self) -> Path:
        """The folder of simonw/llm."""
        moved = self._environment.get("LLM_USER_PATH")
        return Path(moved) if moved else self.application / "io.datasette.llm"

    @property
    def vim(self) -> Path:
        """The folder of Vim's own files."""
        return self.home / ("vimfiles" if self._platform == "win32" else ".vim")

    @property
    def neovim(self) -> Path:
        """The folder of Neovim's configuration."""
        if self._platform == "win32":
            local = self._environment.get("LOCALAPPDATA")
            return (Path(local) if local else self.home / "AppData" / "Local") / "nvim"
        return self.config / "nvim"

    @property
    def _roaming(self) -> Path:
        moved = self._environment.get("APPDATA")
        return Path(moved) if moved else self.home / "AppData" / "Roaming"
