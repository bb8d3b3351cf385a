"""Tokens per second of a loaded model on this machine; knows nothing of quality."""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import msgspec

from quantize.llama_session import LlamaSession

_WARM_UP_TOKENS = 16


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """Hold rates for one sequence."""

    prefill_tokens_per_second: float
    decode_tokens_per_second: float


def measure_throughput(
    session: LlamaSession,
    *,
    prefill_tokens: int,
    decode_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Throughput:
    """Time one prefill and some decode steps after a warm-up, which pays for pages and kernels.

    The decode rate is that of the median step, so that a busy moment of the machine does not show.
    """
    tokens = _ordinary_tokens(session, max(prefill_tokens, _WARM_UP_TOKENS))
    session.reset()
    session.last_logits(tokens[:_WARM_UP_TOKENS])
    session.last_logits(tokens[:1])
    session.reset()
    start = clock()
    logits = session.last_logits(tokens[:prefill_tokens])
    times = [clock()]
    for _ in range(decode_tokens):
        logits = session.last_logits([int(logits.argmax())])
        times.append(clock())
    step = statistics.median(later - earlier for earlier, later in pairwise(times))
    return Throughput(
        prefill_tokens_per_second=prefill_tokens / max(times[0] - start, 1e-9),
        decode_tokens_per_second=1 / max(step, 1e-9),
    )


def _ordinary_tokens(session: LlamaSession, count: int) -> list[int]:
    text = "def area(width, height):\n    return width * height\n\n"
    ids = session.tokenize(text, parse_special=False, add_special=False)
    return (ids * (count // len(ids) + 1))[:count]
