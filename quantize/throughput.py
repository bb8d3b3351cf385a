"""Tokens per second of a loaded model on this machine; knows nothing of quality."""

import time
from collections.abc import Callable

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
    """Time one prefill and one decode after a warm-up, which pays for pages and kernels."""
    tokens = _ordinary_tokens(session, max(prefill_tokens, _WARM_UP_TOKENS))
    session.reset()
    session.last_logits(tokens[:_WARM_UP_TOKENS])
    session.last_logits(tokens[:1])
    session.reset()
    start = clock()
    logits = session.last_logits(tokens[:prefill_tokens])
    middle = clock()
    for _ in range(decode_tokens):
        logits = session.last_logits([int(logits.argmax())])
    end = clock()
    return Throughput(
        prefill_tokens_per_second=prefill_tokens / max(middle - start, 1e-9),
        decode_tokens_per_second=decode_tokens / max(end - middle, 1e-9),
    )


def _ordinary_tokens(session: LlamaSession, count: int) -> list[int]:
    text = "def area(width, height):\n    return width * height\n\n"
    ids = session.tokenize(text, parse_special=False, add_special=False)
    return (ids * (count // len(ids) + 1))[:count]
