"""Uvicorn, stopped in order: no new connections, a grace, then every answer is ended.

Knows neither dialects nor the model; `end_answers` is what it calls when the grace is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from litestar import Litestar

    from serve.tls import Certificate

_LAST_RESORT_SECONDS = 5


class Server(uvicorn.Server):
    """Ended answers say so to their clients; a handler that is cancelled could not.

    Uvicorn itself cancels what is left `_LAST_RESORT_SECONDS` after the grace: a client that
    reads nothing keeps nobody waiting.
    """

    def __init__(
        self,
        app: Litestar,
        *,
        grace_seconds: int,
        end_answers: Callable[[], None],
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_graceful_shutdown=grace_seconds + _LAST_RESORT_SECONDS,
                ssl_certfile=certificate.chain if certificate else None,
                ssl_keyfile=certificate.key if certificate else None,
            )
        )
        self._grace_seconds = grace_seconds
        self._end_answers = end_answers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for the answers under way, but not longer than the grace."""
        ending = asyncio.create_task(self._end_after_grace())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_after_grace(self) -> None:
        await asyncio.sleep(self._grace_seconds)
        await asyncio.to_thread(self._end_answers)
