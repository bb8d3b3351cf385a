"""The memory a server may take, and what it takes to serve a file in it.

A file needs what was measured here, brought to the asked context, and never less than what the
server plans with: the file, an f16 KV cache of one context, and a fixed amount to compute in. With
more memory the server holds more contexts and prefixes. Knows no measurement but figures.
"""

from typing import Any

import msgspec

from quantize.config import RecommendConfig
from quantize.errors import ConfigError
from quantize.llama.gguf_header import GgufHeader
from quantize.llama.inspect_gguf import kv_cache_bytes
from quantize.machine import memory_bytes
from quantize.space import parse_bytes

DEFAULT_CONTEXT = 8192
"""The server's own, where the model was trained on as much."""
_SHARE_OF_MACHINE = 0.75
_UNKNOWN_MACHINE_BYTES = 4 << 30
_SERVER_BYTES = 96 << 20
"""What the server's own packages add to a process that only holds the model."""
_RESERVE_BYTES = 256 << 20
"""What the server keeps free to compute in; docs/artifacts.md."""


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Say how much memory there is for how many tokens of context."""

    ram_bytes: int
    context: int

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.ram_bytes / 2**30:.3g} GiB at {self.context} tokens of context"


def room(bounds: RecommendConfig, model: GgufHeader) -> Room:
    """Return what is asked for, and the defaults where nothing is.

    Raises:
        ConfigError: for a context beyond the one that the model was trained on.
    """
    trained = model.architecture_value("context_length")
    most = trained if isinstance(trained, int) else max(bounds.context, DEFAULT_CONTEXT)
    if bounds.context > most:
        raise ConfigError(
            f"a context of {bounds.context} tokens is asked for and {model.path.name} was trained "
            f"on {most}; ask for at most that"
        )
    machine = int((memory_bytes() or _UNKNOWN_MACHINE_BYTES) * _SHARE_OF_MACHINE)
    return Room(
        ram_bytes=parse_bytes(bounds.ram) if bounds.ram else machine,
        context=bounds.context or min(DEFAULT_CONTEXT, most),
    )


def needed_bytes(header: GgufHeader, context: int, figures: dict[str, Any] | None) -> int:
    """Return what serving a file takes; `figures` are this machine's, if it was measured here."""
    kv_bytes = kv_cache_bytes(header, context)
    planned = header.file_bytes + kv_bytes + _RESERVE_BYTES
    resident = (figures or {}).get("resident_bytes")
    if not figures or not resident:
        return planned
    other = kv_bytes - kv_cache_bytes(header, figures["resident_context_tokens"])
    return max(planned, int(resident) + other + _SERVER_BYTES)
