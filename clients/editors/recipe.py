"""A server as editors see it, and what setting one up consists of. Knows no editor."""

from __future__ import annotations

import msgspec

from clients.editors.documents import Change  # noqa: TC001  # msgspec reads the types

NAME = "edgesmith"
KEY_VARIABLE = "EDGESMITH_API_KEY"
NO_KEY = "none"  # many programs refuse to run without any


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The model actually served. `root_url` has no /v1; `context` is in tokens."""

    root_url: str
    model: str
    context: int
    has_fim: bool
    has_tools: bool
    wants_key: bool

    @property
    def api_url(self) -> str:
        """Where the OpenAI dialect begins."""
        return f"{self.root_url}/v1"

    @property
    def answer(self) -> int:
        """The longest answer to ask for, in tokens: a part that leaves room for the question."""
        return max(256, self.context // 4)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """Files to change, and what the user has to know or do."""

    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


def room(server: Server, needed: int) -> tuple[str, ...]:
    """Warn where the program's own instructions hardly fit into the context."""
    if server.context >= 2 * needed:
        return ()
    wanted = f"its instructions and tools alone take about {needed:,} tokens"
    return (f"{wanted}; the server gives {server.context:,}: serve a model with a longer context",)
