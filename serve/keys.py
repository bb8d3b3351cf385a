"""API keys: read them, and refuse an open door.

Knows no HTTP; `api/access.py` compares what clients send.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from serve.errors import AccessError
from serve.listen import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serve.config import Settings

ENVIRONMENT_KEY = "EDGESMITH_API_KEY"


def api_keys(settings: Settings, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the keys that are accepted, none when anybody on this machine may ask.

    Raises:
        AccessError: an unreadable or empty key file, or a public bind without a key.
    """
    keys = [key for key in (environment.get(ENVIRONMENT_KEY, "").strip(),) if key]
    if settings.access.api_key_file:
        keys += _from_file(Path(settings.access.api_key_file).expanduser())
    host = settings.server.host
    if not keys and not is_loopback(host) and not settings.access.allow_public_without_key:
        raise AccessError(
            f"{host} is reachable from other machines and no API key is set; give --api-key-file "
            f"or {ENVIRONMENT_KEY}, or --set access.allow_public_without_key=true"
        )
    return tuple(keys)


def _from_file(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AccessError(f"cannot read the API keys in {path}: {error}") from error
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise AccessError(f"{path} holds no API key; write one a line")
    return keys
