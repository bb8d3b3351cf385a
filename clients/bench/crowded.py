"""Answers while other programs want every core, as a compiler or a test run does.

Knows how to keep cores busy; how answers are asked for, the load generator knows.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clients.bench import load
from clients.bench.edits import rate
from clients.bench.scenarios import Ask, code
from clients.bench.workloads import answered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clients.bench.workloads import Figures, Turn

NUM_ANSWERS = 3  # a server that adapts needs a moment, which counts as well
BUSY = "while True: pass"


async def crowded(turn: Turn) -> Figures:
    """Write answers one after the other beside a busy process a core; the rate is of all."""
    num = turn.sizes.num_decoded_tokens
    prompts = [f"# {turn.key}.{i}\n{code(i, turn.key, 2)}\ndef " for i in range(NUM_ANSWERS)]
    asks = [Ask(kind="complete", prompt=prompt, max_tokens=num) for prompt in prompts]
    with busy_cores(os.cpu_count() or 1):
        answers = answered([await load.one(turn.client, ask) for ask in asks])
    return {
        "tokens_per_second": rate(*answers),
        "last_tokens_per_second": rate(answers[-1]),
        "first_token_seconds": max(answer.first_token_seconds for answer in answers),
    }


@contextmanager
def busy_cores(num: int) -> Iterator[None]:
    """Keep so many processes computing, of no more than our own priority."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(num)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
        for process in busy:
            process.wait()
