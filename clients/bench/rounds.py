"""Let peers take turns at the same scenarios, round by round, and keep what each round gave.

The order rotates, so that none always comes first on a warm or tired machine; only one peer is
asked at a time. Knows no statistics.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from clients.bench import workloads
from clients.bench.counts import count
from clients.bench.fim_routes import PHRASES, FimRoute, routes_of
from clients.bench.registry import WORKLOADS
from clients.bench.workloads import Sizes, Turn, WorkloadError, long_prompt
from clients.errors import (
    AuthenticationError,
    BadRequestError,
    ClientError,
    ContextLengthError,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clients.async_client import AsyncClient
    from clients.bench.launch import Running

NUM_SAMPLE_FUNCTIONS = 20
_BESIDE_LONG = {"mixed", "mixed-edits"}  # what times its requests by the long prompt


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared. `key` makes this run's prompts its own."""

    scenarios: tuple[str, ...] = tuple(WORKLOADS)
    num_rounds: int = 3
    num_long_tokens: int = 1500
    sizes: Sizes = Sizes()
    key: str


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One peer's turn at one scenario. `error` where there are no figures."""

    peer: str
    scenario: str
    round: int
    figures: dict[str, float | None] = {}
    error: str | None = None


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """A peer ready to be asked."""

    server: Running
    client: AsyncClient
    fim: FimRoute

    @property
    def name(self) -> str:
        """What the results call it."""
        return self.server.peer.name

    def turn(self, key: str, sizes: Sizes) -> Turn:
        """Return what a workload is given."""
        return Turn(
            client=self.client,
            fim=self.fim,
            key=key,
            sizes=sizes,
            restart=self.server.restart if self.server.process else None,
        )


class Idle:
    """How busy the peers are while another has its turn."""

    def __init__(self, contenders: Sequence[Contender]) -> None:
        self._servers = {contender.name: contender.server for contender in contenders}
        self._busy_seconds = dict.fromkeys(self._servers, 0.0)
        self._seconds = dict.fromkeys(self._servers, 0.0)

    def readings(self) -> dict[str, float | None]:
        """Return every peer's processor time so far."""
        return {name: server.cpu_seconds() for name, server in self._servers.items()}

    def note(self, name: str, before: dict[str, float | None], seconds: float) -> None:
        """Take stock after the turn of `name`."""
        for other, after in self.readings().items():
            earlier = before[other]
            if other != name and after is not None and earlier is not None:
                self._busy_seconds[other] += after - earlier
                self._seconds[other] += seconds

    def shares(self) -> dict[str, float]:
        """Return processor time by wall time, of those that can be watched."""
        return {
            name: round(self._busy_seconds[name] / seconds, 4)
            for name, seconds in self._seconds.items()
            if seconds
        }


async def prepare(
    servers: Sequence[Running], clients: Sequence[AsyncClient], plan: Plan
) -> tuple[list[Contender], Sizes, list[str]]:
    """Warm the peers up; return them, the sizes that fit this model, and what is to be said.

    Raises:
        ClientError: a peer cannot be asked at all.
    """
    for server, client in zip(servers, clients, strict=True):
        with _named(server.peer.name):
            client.model = client.model or await _first_model(client)
    num_functions = await _num_functions(clients[0], plan)
    sizes = msgspec.structs.replace(plan.sizes, num_long_functions=num_functions)
    routes = await routes_of(clients)
    contenders = [
        Contender(server=server, client=client, fim=route)
        for server, client, route in zip(servers, clients, routes, strict=True)
    ]
    key = f"{plan.key}.warm"
    seconds = [1.0]
    if _BESIDE_LONG & set(plan.scenarios):
        seconds = [await _seconds_to_read(contender, sizes, key) for contender in contenders]
    notes = [
        f"{contender.name}: small requests by {PHRASES[contender.fim.kind]}"
        for contender in contenders
        if _BESIDE_LONG & set(plan.scenarios)
    ]
    return contenders, msgspec.structs.replace(sizes, long_seconds=min(seconds)), notes


async def play(
    contenders: Sequence[Contender],
    plan: Plan,
    sizes: Sizes,
    *,
    on_progress: Callable[[int, int], None],
) -> tuple[list[Sample], dict[str, float]]:
    """Play every round; return the samples and how busy idle peers were, as parts of a core."""
    samples: list[Sample] = []
    idle = Idle(contenders)
    total = plan.num_rounds * len(plan.scenarios) * len(contenders)
    for number in range(plan.num_rounds):
        for scenario in plan.scenarios:
            key = f"{plan.key}.{number}.{scenario}"
            for contender in rotated(contenders, number):
                turn = contender.turn(key, sizes)
                before, started = idle.readings(), time.perf_counter()
                samples.append(await _sample(contender.name, scenario, number, turn))
                idle.note(contender.name, before, time.perf_counter() - started)
                on_progress(len(samples), total)
    return samples, idle.shares()


def rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Return the order of a round: A B C, then C A B, then B C A."""
    at = -number % len(contenders)
    return [*contenders[at:], *contenders[:at]]


async def _sample(name: str, scenario: str, number: int, turn: Turn) -> Sample:
    try:
        figures = await WORKLOADS[scenario](turn)
    except (ClientError, WorkloadError) as error:
        kind = f"{type(error).__name__}: " if isinstance(error, ClientError) else ""
        return Sample(peer=name, scenario=scenario, round=number, error=f"{kind}{error}")
    return Sample(peer=name, scenario=scenario, round=number, figures=figures)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say which of the servers it is that refuses what the caller wants of it."""
    try:
        yield
    except ContextLengthError as error:
        raise UsageError(
            f"{name}: {error}; lower --prompt-tokens or give it more context"
        ) from error
    except (AuthenticationError, BadRequestError) as error:
        raise UsageError(f"{name}: {error}") from error


async def _first_model(client: AsyncClient) -> str | None:
    models = await client.models()
    return models[0].id if models else None


async def _num_functions(client: AsyncClient, plan: Plan) -> int:
    """Return how much code makes the long prompt, from what the model's tokenizer makes of some."""
    prompt = long_prompt(f"{plan.key}.sample", NUM_SAMPLE_FUNCTIONS)
    answer = await client.complete(prompt, max_tokens=1, temperature=0.0)
    num_tokens = count(answer.usage, answer.timings).num_prompt_tokens
    if not num_tokens:
        raise UsageError("the first server does not count prompt tokens; name another one first")
    return max(1, round(plan.num_long_tokens * NUM_SAMPLE_FUNCTIONS / num_tokens))


async def _seconds_to_read(contender: Contender, sizes: Sizes, key: str) -> float:
    turn = contender.turn(key, sizes)
    started = time.perf_counter()
    with _named(contender.name):
        await workloads.prefill(turn)
    return time.perf_counter() - started
