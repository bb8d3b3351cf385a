"""Talk to an OpenAI-compatible server: library, command line and measuring tools.

The names below load on first use, so that the console script runs where httpx is not installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clients.async_client import AsyncClient
    from clients.client import Client
    from clients.errors import ClientError, ServerError
    from clients.policy import RetryPolicy, Timeout

DEFAULT_BASE_URL = "http://127.0.0.1:8080/v1"  # where `python -m serve` listens

__all__ = [
    "DEFAULT_BASE_URL",
    "AsyncClient",
    "Client",
    "ClientError",
    "RetryPolicy",
    "ServerError",
    "Timeout",
]

_HOMES = {
    "AsyncClient": "clients.async_client",
    "Client": "clients.client",
    "ClientError": "clients.errors",
    "RetryPolicy": "clients.policy",
    "ServerError": "clients.errors",
    "Timeout": "clients.policy",
}


def __getattr__(name: str) -> Any:
    """Import the module that owns `name`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
