"""The scenarios of a comparison: each puts one server to work once and returns its figures.

A figure is None where the server does not report what it needs. Knows no other server.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from clients.bench import load
from clients.bench.counts import count
from clients.bench.scenarios import Ask, code
from clients.bench.summary import percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from clients.async_client import AsyncClient
    from clients.bench.fim_routes import FimRoute
    from clients.bench.load import Measured

Figures = dict[str, float | None]
MIN_DECODED_TOKENS = 8
ARRIVALS = (0.1, 0.25, 0.4, 0.55, 0.7)
"""When small requests arrive, as parts of the time that the fastest peer takes for the long one."""


class WorkloadError(Exception):
    """A request of the scenario failed, so that it has no figures; the message is the kind."""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much work. `num_long_functions` of code make `num_long_tokens`, as counted beforehand.

    `long_seconds` is what the fastest peer took to read them, idle.
    """

    num_decoded_tokens: int = 64
    num_streams: int = 8
    num_small_tokens: int = 16
    num_turns: int = 6
    num_edited_tokens: int = 192
    num_long_functions: int = 60
    long_seconds: float = 1.0


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One server's turn in one round. `key` begins every prompt, so that no cache knows it.

    It is the same for all peers in a round. `restart` ends the server and starts it again, where
    it was started here; it blocks.
    """

    client: AsyncClient
    fim: FimRoute
    key: str
    sizes: Sizes
    restart: Callable[[], None] | None = None


async def decode(turn: Turn) -> Figures:
    """Write one answer; the rate counts from the first token on."""
    (answer,) = answered([await load.one(turn.client, _short_prompt(turn, 0))])
    return {"tokens_per_second": _rate(answer), **_written([answer])}


async def decode_many(turn: Turn) -> Figures:
    """Write several answers at once; the rate is of all, over the whole time."""
    num = turn.sizes.num_streams
    asks = [_short_prompt(turn, number) for number in range(num)]
    started = time.perf_counter()
    measured = await load.closed_loop(turn.client, asks, num_users=num, on_progress=silent)
    seconds = time.perf_counter() - started
    num_tokens = sum(answer.num_tokens for answer in answered(measured))
    return {
        "tokens_per_second": num_tokens / seconds,
        **_written(measured),
        **first_tokens(measured),
    }


async def prefill(turn: Turn) -> Figures:
    """Read a long prompt that no cache knows, and write one token.

    Raises:
        ClientError: the server failed.
    """
    started = time.perf_counter()
    prompt = long_prompt(turn.key, turn.sizes.num_long_functions)
    answer = await turn.client.complete(prompt, max_tokens=1, temperature=0.0)
    seconds = time.perf_counter() - started
    counts = count(answer.usage, answer.timings)
    num_read = counts.num_read_tokens
    num_read = counts.num_prompt_tokens if num_read is None else num_read
    rate = num_read / seconds if num_read else None
    return {"tokens_per_second": rate, "prompt_tokens": counts.num_prompt_tokens}


async def mixed(turn: Turn) -> Figures:
    """Let small requests arrive, each at its time, while a long prompt is read."""
    sizes = turn.sizes
    prompt = long_prompt(turn.key, sizes.num_long_functions)
    asks = [Ask(kind="complete", prompt=prompt, max_tokens=1, label="long")]
    asks += [_gap(turn, number) for number in range(len(ARRIVALS))]
    times = [0.0, *(part * sizes.long_seconds for part in ARRIVALS)]
    measured = answered(await load.open_loop(turn.client, asks, times, on_progress=silent))
    (long,) = (answer for answer in measured if answer.label == "long")
    small = first_tokens([answer for answer in measured if answer.label == "short"])
    return {**small, "long_first_token_seconds": long.first_token_seconds}


async def chat_replay(turn: Turn) -> Figures:
    """Follow an agent whose history grows by its own answers and by what its tools return."""
    messages = [{"role": "system", "content": f"# {turn.key}\nYou help with Python."}]
    answers: list[Measured] = []
    for number in range(turn.sizes.num_turns):
        found = code(number, turn.key, 6)
        messages.append({"role": "user", "content": f"The tool found:\n{found}\nWhat is next?"})
        num = turn.sizes.num_small_tokens
        ask = Ask(kind="chat", messages=tuple(messages), max_tokens=num)
        answers += answered([await load.one(turn.client, ask)])
        messages.append({"role": "assistant", "content": answers[-1].text})
    later = [answer.first_token_seconds for answer in answers[1:]]
    return {
        "prompt_tokens": _total([answer.num_prompt_tokens for answer in answers]),
        "read_tokens": _total([answer.num_read_tokens for answer in answers]),
        "first_token_p50_seconds": percentile(later, 50),
    }


def long_prompt(key: str, num_functions: int) -> str:
    """Return code of that length with a beginning of its own."""
    return f"# module {key}\n{code(0, key, num_functions)}"


def _short_prompt(turn: Turn, number: int) -> Ask:
    prompt = f"# {turn.key}.{number}\n{code(number, turn.key, 2)}\ndef "
    return Ask(kind="complete", prompt=prompt, max_tokens=turn.sizes.num_decoded_tokens)


def _gap(turn: Turn, number: int) -> Ask:
    before = f"# {turn.key}.{number}\n{code(number, turn.key, 3)}\ndef largest(values):\n    "
    return turn.fim.ask(before, "\n    return best\n", turn.sizes.num_small_tokens)


def answered(measured: Sequence[Measured]) -> Sequence[Measured]:
    """Return the answers. Raises: WorkloadError, one of them failed."""
    for answer in measured:
        if answer.error:
            raise WorkloadError(answer.error)
    return measured


def _rate(answer: Measured) -> float:
    """Return tokens a second between the first piece and the last."""
    if answer.num_tokens < MIN_DECODED_TOKENS or len(answer.piece_seconds) < 2:
        raise WorkloadError(f"the answer ended after {answer.num_tokens} tokens, too few to time")
    return (answer.num_tokens - 1) / (answer.piece_seconds[-1] - answer.piece_seconds[0])


def _written(measured: Sequence[Measured]) -> Figures:
    """Return the tokens written; None where a server does not count and pieces had to do."""
    return {"tokens": _total([m.num_tokens if m.is_counted else None for m in measured])}


def first_tokens(measured: Sequence[Measured]) -> Figures:
    """Return the median and the 95th percentile of the waits for a first token, in seconds."""
    seconds = [answer.first_token_seconds for answer in measured]
    return {
        "first_token_p50_seconds": percentile(seconds, 50),
        "first_token_p95_seconds": percentile(seconds, 95),
    }


def _total(counts: Sequence[int | None]) -> float | None:
    """Return the sum, None where one is unknown."""
    known = [number for number in counts if number is not None]
    return sum(known) if len(known) == len(counts) else None


def silent(_done: int, _total: int) -> None:
    """Show nothing: a scenario is one step of the comparison's own progress."""
