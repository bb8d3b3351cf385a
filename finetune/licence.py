"""Which licence a folder of weights or a card states, as an SPDX name where one is known.

Knows nothing of what a licence permits; an unknown one stays unknown.
"""

import re
from pathlib import Path

SPDX = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-sa-4.0": "CC-BY-SA-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "cc0-1.0": "CC0-1.0",
    "gpl-3.0": "GPL-3.0",
}
OPENINGS = {
    r"Apache License\s+Version 2\.0": "Apache-2.0",
    r"^MIT License": "MIT",
    r"LLAMA 3\.2 COMMUNITY LICENSE": "llama3.2",
    r"LLAMA 3\.1 COMMUNITY LICENSE": "llama3.1",
    r"Gemma Terms of Use": "gemma",
}
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")


def normalise(name: str | None) -> str | None:
    """Return the SPDX spelling of a licence name, the name itself, or None when it says nothing."""
    if name is None or name.strip().lower() in {"", "unknown", "other"}:
        return None
    return SPDX.get(name.strip().lower(), name.strip())


def licence_of_folder(folder: Path) -> str | None:
    """Read the front matter of README.md, then the opening of a licence file."""
    readme = folder / "README.md"
    if readme.is_file():
        found = licence_of_card(readme.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found
    for name in LICENCE_FILES:
        path = folder / name
        if path.is_file():
            return _licence_of_text(path.read_text(encoding="utf-8", errors="replace")[:600])
    return None


def licence_of_card(text: str) -> str | None:
    """Return the `license` of a card's front matter; `license_name` tells what "other" is."""
    front = re.match(r"---\s*\n(.*?)\n---", text, flags=re.DOTALL)
    if front is None:
        return None
    for key in ("license", "license_name"):
        line = re.search(rf"^{key}:\s*(\S.*?)\s*$", front.group(1), flags=re.MULTILINE)
        found = normalise(line.group(1).strip("\"'")) if line else None
        if found:
            return found
    return None


def _licence_of_text(opening: str) -> str | None:
    for pattern, name in OPENINGS.items():
        if re.search(pattern, opening, flags=re.MULTILINE):
            return name
    return None
