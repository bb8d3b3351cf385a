"""Keep responses for those who go on from them: bounded, in memory, each key's own.

Knows no dialect beyond an id and the items of a conversation.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from serve.api.errors import InvalidRequestError, ResponseNotFoundError

if TYPE_CHECKING:
    from serve.api.generation import Answer
    from serve.api.responses_answer import Writing
    from serve.api.responses_schemas import Item, ResponseBody


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A response, the items it answered, and its generation while that runs."""

    body: ResponseBody
    items: list[Item]
    running: Answer | None = None

    def conversation(self) -> list[Item]:
        """Return what was asked and answered."""
        return [*self.items, *(msgspec.to_builtins(item) for item in self.body.output)]


class ResponseStore:
    """The newest responses. Those used longest ago are forgotten first; event loop only."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, str], Stored] = OrderedDict()
        self._sizes: dict[tuple[str, str], int] = {}

    @property
    def is_open(self) -> bool:
        """Whether anything is kept at all."""
        return self._max_count > 0

    def put(self, scope: str, stored: Stored) -> None:
        """Keep a response, or what became of it. `scope` is opaque: nobody else's finds it."""
        key = (scope, stored.body.id)
        self._entries[key] = stored
        self._entries.move_to_end(key)
        self._sizes[key] = len(msgspec.json.encode((stored.items, stored.body)))
        while len(self._entries) > self._max_count or sum(self._sizes.values()) > self._max_bytes:
            self._forget(next(iter(self._entries)))

    def get(self, scope: str, response_id: str) -> Stored:
        """Return a response.

        Raises:
            ResponseNotFoundError: it was never stored for this scope, or is forgotten.
        """
        stored = self._entries.get((scope, response_id))
        if stored is None:
            raise ResponseNotFoundError(
                f"no response {response_id!r} is stored here; the newest {self._max_count} are "
                "kept while the server runs",
            )
        self._entries.move_to_end((scope, response_id))
        return stored

    def replace(self, scope: str, stored: Stored) -> None:
        """Keep what became of a response, unless it has been forgotten meanwhile."""
        if (scope, stored.body.id) in self._entries:
            self.put(scope, stored)

    def cancel(self, scope: str, response_id: str) -> ResponseBody:
        """Stop a response that is being made, and return it.

        Raises:
            ResponseNotFoundError: see `get`.
            InvalidRequestError: it is over.
        """
        stored = self.get(scope, response_id)
        if stored.running is None:
            raise InvalidRequestError(
                f"the response {response_id!r} is {stored.body.status}; only one in progress can "
                "be cancelled"
            )
        stored.running.cancel()
        body = msgspec.structs.replace(stored.body, status="cancelled")
        self.put(scope, msgspec.structs.replace(stored, body=body))
        return body

    def delete(self, scope: str, response_id: str) -> None:
        """Forget a response. Raises: ResponseNotFoundError."""
        self.get(scope, response_id)
        self._forget((scope, response_id))

    def _forget(self, key: tuple[str, str]) -> None:
        del self._entries[key], self._sizes[key]


class Kept:
    """One response's place in the store; one that was never put there has none."""

    def __init__(self, store: ResponseStore, scope: str, items: list[Item]) -> None:
        self._store = store
        self._scope = scope
        self._items = items

    def begin(self, body: ResponseBody, running: Answer) -> None:
        """Keep a response that is being made."""
        self._store.put(self._scope, Stored(body=body, items=self._items, running=running))

    def end(self, writing: Writing, error: Exception | None) -> ResponseBody:
        """Keep what became of it, and return that."""
        if error is not None:
            writing.failed(error, status="cancelled" if self._is_cancelled(writing) else "failed")
        self._store.replace(self._scope, Stored(body=writing.body, items=self._items))
        return writing.body

    def _is_cancelled(self, writing: Writing) -> bool:
        try:
            return self._store.get(self._scope, writing.body.id).body.status == "cancelled"
        except ResponseNotFoundError:
            return False
