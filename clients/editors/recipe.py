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


def agent_notes(server: Server, num_tokens: int) -> tuple[str, ...]:
    """Warn where a program that always sends tools and so many tokens will hardly work."""
    notes = []
    if not server.has_tools:
        notes.append(
            f"it always sends tools, which the chat template of {server.model} does not know: "
            "the server will refuse; serve a model that calls tools"
        )
    if server.context < 2 * num_tokens:
        notes.append(
            f"its instructions and tools alone take about {num_tokens:,} tokens; the server gives "
            f"{server.context:,}: serve a model with a longer context"
        )
    return tuple(notes)
