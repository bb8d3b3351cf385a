"""Where long texts are worked on: in a thread, so that the event loop answers others meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
OFF_LOOP_CHARS = 8192


async def off_loop(size_chars: int, work: Callable[[], T]) -> T:
    """Do `work` here when it is small, else in a thread."""
    if size_chars < OFF_LOOP_CHARS:
        return work()
    return await asyncio.to_thread(work)
