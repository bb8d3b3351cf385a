"""Notice that a client has gone away while its answer is being made.

Litestar runs a handler to its end whether or not anyone still listens. The ASGI server tells it
through `receive()`, which yields `http.disconnect` once the body has been read and the peer closes.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from litestar import Request

from serve.api.errors import ClientGoneError

T = TypeVar("T")


async def unless_disconnected(request: Request[Any, Any, Any], work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; cancel it when the client closes the connection.

    The body must have been read before.

    Raises:
        ClientGoneError: nobody waits for the answer any more.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError("the client closed the connection")
        return task.result()
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _disconnected(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
