"""Tokens per second of a loaded model on this machine; knows nothing of quality."""

import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from quantize.llama.parallel_session import ParallelSession

_WARM_UP_TOKENS = 16
Clock = Callable[[], float]


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Hold tokens per second, by rows per call and by sequences side by side."""

    prefill: dict[int, float]
    decode: dict[int, float]


def measure_throughput(
    session: ParallelSession,
    *,
    prefill_tokens: int,
    prefill_rows: Sequence[int],
    decode_tokens: int,
    decode_sequences: Sequence[int],
    clock: Clock = time.perf_counter,
) -> Throughput:
    """Time prefills and decode steps after a warm-up, which pays for pages and kernels.

    A decode rate is that of the median step, so that a busy moment of the machine does not show.
    """
    tokens = _ordinary_tokens(session, max(prefill_tokens, _WARM_UP_TOKENS))
    session.reset()
    session.last_logits(tokens[:_WARM_UP_TOKENS])
    session.last_logits(tokens[:1])
    prefill = {
        rows: _prefill_rate(session, tokens[:prefill_tokens], rows, clock) for rows in prefill_rows
    }
    decode = {
        count: _decode_rate(session, tokens[0], count, decode_tokens, clock)
        for count in decode_sequences
    }
    return Throughput(prefill=prefill, decode=decode)


def _prefill_rate(
    session: ParallelSession, tokens: Sequence[int], rows: int, clock: Clock
) -> float:
    session.reset()
    start = clock()
    for first in range(0, len(tokens), rows):
        session.last_logits(tokens[first : first + rows])
    return len(tokens) / max(clock() - start, 1e-9)


def _decode_rate(
    session: ParallelSession, token_id: int, num_sequences: int, num_steps: int, clock: Clock
) -> float:
    """Return the tokens of all sequences per second, each beginning with what was just read."""
    depth = session.n_past
    session.fork()
    times = [clock()]
    for _ in range(num_steps):
        session.step(token_id, num_sequences)
        times.append(clock())
    session.truncate(depth)
    step = statistics.median(later - earlier for earlier, later in pairwise(times))
    return num_sequences / max(step, 1e-9)


def _ordinary_tokens(session: ParallelSession, count: int) -> list[int]:
    text = "def area(width, height):\n    return width * height\n\n"
    ids = session.tokenize(text, parse_special=False, add_special=False)
    return (ids * (count // len(ids) + 1))[:count]
