"""What a restart costs: a prompt read before, asked again of the same server started anew.

Only for servers that this comparison started. A server that keeps nothing reads all of it again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clients.bench import load
from clients.bench.scenarios import Ask
from clients.bench.workloads import WorkloadError, answered, long_prompt

if TYPE_CHECKING:
    from clients.bench.load import Measured
    from clients.bench.workloads import Figures, Turn

IDLE_SECONDS = 4.0  # between two files; longer than our server takes to put a prefix away


async def restart(turn: Turn) -> Figures:
    """Read a long prompt, leave it idle, restart the server and ask for it again.

    Raises:
        WorkloadError: somebody else started the server.
    """
    if turn.restart is None:
        raise WorkloadError("a server that runs already cannot be restarted here")
    prompt = long_prompt(turn.key, turn.sizes.num_long_functions)
    ask = Ask(kind="complete", prompt=prompt, max_tokens=turn.sizes.num_small_tokens)
    cold = await _asked(turn, ask)
    await asyncio.sleep(IDLE_SECONDS)
    await asyncio.to_thread(turn.restart)
    await _asked(turn, Ask(kind="complete", prompt="def ", max_tokens=1))  # it has its weights
    warm = await _asked(turn, ask)
    return {
        "cold_first_token_seconds": cold.first_token_seconds,
        "first_token_seconds": warm.first_token_seconds,
        "read_tokens": warm.num_read_tokens,
        "to_cold": warm.first_token_seconds / cold.first_token_seconds,
    }


async def _asked(turn: Turn, ask: Ask) -> Measured:
    (answer,) = answered([await load.one(turn.client, ask)])
    return answer
