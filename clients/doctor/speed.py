"""Measure what a user feels: the first token, and how fast the rest comes.

One request at a time; knows nothing of load, which is the load generator's work.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import msgspec

from clients.doctor.checks import QUESTION, Check
from clients.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.client import Client

SLOW_FIRST_TOKEN_SECONDS = 2.0
SLOW_TOKENS_PER_SECOND = 8.0  # about as fast as one reads code


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """Medians over `num_requests`. `tokens_per_second` counts from the first token on."""

    num_requests: int
    first_token_seconds: float
    tokens_per_second: float | None


def measure(
    client: Client,
    *,
    num_requests: int,
    max_tokens: int = 32,
    now: Callable[[], float] = time.perf_counter,
) -> Speed | None:
    """Ask a few questions, each with a beginning of its own; None when no text came.

    The beginnings differ so that a prefix cache does not make the first token look cheap.

    Raises:
        ClientError: the server failed on the way.
    """
    samples = []
    for number in range(num_requests):
        question = f"Question {number}: {QUESTION}"
        sample = _one(client, question, max_tokens=max_tokens, now=now)
        if sample is not None:
            samples.append(sample)
    if not samples:
        return None
    rates = [rate for _, rate in samples if rate is not None]
    return Speed(
        num_requests=len(samples),
        first_token_seconds=statistics.median(first for first, _ in samples),
        tokens_per_second=statistics.median(rates) if rates else None,
    )


def judge(client: Client, num_requests: int) -> tuple[Check, Speed | None]:
    """Measure, and say what to change when it is slow."""
    try:
        speed = measure(client, num_requests=num_requests)
    except ClientError as error:
        return Check(name="speed", outcome="failed", detail=str(error)), None
    if speed is None:
        return Check(name="speed", outcome="failed", detail="no text came"), None
    rate = speed.tokens_per_second
    shown = "unknown" if rate is None else f"{rate:.1f}"
    detail = (
        f"first token {speed.first_token_seconds:.2f} s, {shown} tok/s "
        f"(medians of {speed.num_requests})"
    )
    remedy = _remedy(speed)
    return (
        Check(name="speed", outcome="warning" if remedy else "ok", detail=detail, remedy=remedy),
        speed,
    )


def _one(
    client: Client, question: str, *, max_tokens: int, now: Callable[[], float]
) -> tuple[float, float | None] | None:
    """Return seconds to the first text and tokens per second after it."""
    started = now()
    first = last = None
    num_pieces = 0
    with client.stream_chat(question, max_tokens=max_tokens, temperature=0.0) as stream:
        for chunk in stream:
            if chunk.text:
                last = now()
                first = last if first is None else first
                num_pieces += 1
    if first is None or last is None:
        return None
    num_tokens = stream.usage.completion_tokens if stream.usage else num_pieces
    rate = (num_tokens - 1) / (last - first) if num_tokens > 1 and last > first else None
    return first - started, rate


def _remedy(speed: Speed) -> str:
    advice = []
    if speed.first_token_seconds > SLOW_FIRST_TOKEN_SECONDS:
        advice.append("the first token is late: is something else using the server or the CPU?")
    if speed.tokens_per_second is not None and speed.tokens_per_second < SLOW_TOKENS_PER_SECOND:
        advice.append("slower than one reads: try a smaller model or a smaller type (q4_k_m, q4_0)")
    return " ".join(advice)
