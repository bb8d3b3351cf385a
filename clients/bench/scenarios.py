"""What the load consists of: named scenarios, and sessions recorded from an editor.

Everything is made from a seed, so that two servers get the same requests. Sends nothing.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from clients.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCENARIOS = {
    "chat": "short questions, 64 tokens back",
    "long-prompt": "some 1,500 tokens of code to read, 16 tokens back",
    "shared-prefix": "the same long beginning every time, a question of its own each",
    "fim": "gaps in small functions, 16 tokens back, by /infill",
    "mixed": "one long prompt to three short completions: who waits for whom",
}
# fmt: off
WORDS = (
    "value", "count", "index", "total", "name", "path", "line", "token", "size", "result",
    "item", "key", "limit", "offset", "width", "cache", "buffer", "query", "model", "state",
    "event", "handler", "record", "field", "parser", "writer", "reader",
)
# fmt: on


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request. `label` groups it in the summary; `messages` is a chat's whole history.

    `at_seconds` and `cancel_after_seconds` are for recorded sessions: when it was sent, and how
    long after that the editor gave up on it. `extra` fields are sent along.
    """

    kind: Literal["chat", "complete", "fim"]
    prompt: str = ""
    suffix: str = ""
    max_tokens: int = 64
    messages: tuple[dict[str, str], ...] = ()
    label: str = "all"
    at_seconds: float = 0.0
    cancel_after_seconds: float | None = None
    extra: dict[str, Any] = {}


def make(scenario: str, num_requests: int, seed: int) -> list[Ask]:
    """Return the requests of a scenario."""
    builders = {
        "chat": _chat,
        "long-prompt": _long_prompt,
        "shared-prefix": _shared_prefix,
        "fim": _fim,
        "mixed": _mixed,
    }
    build = builders[scenario]
    return [build(number, seed) for number in range(num_requests)]


def recorded(file: Path) -> list[Ask]:
    """Read a session, one Ask as JSON a line, in the order of their times.

    Raises:
        UsageError: it cannot be read; names the line.
    """
    asks = []
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                asks.append(msgspec.json.decode(line, type=Ask))
            except msgspec.DecodeError as error:
                raise UsageError(f"{file}, line {number}: {error}") from None
    if not asks:
        raise UsageError(f"{file} holds no request")
    return sorted(asks, key=lambda ask: ask.at_seconds)


def poisson_times(num_requests: int, rate_per_second: float, seed: int) -> Sequence[float]:
    """Return when requests arrive whose gaps are exponential, the first at once."""
    draw = random.Random(seed)  # noqa: S311  # load, not secrets
    at, times = 0.0, []
    for _ in range(num_requests):
        times.append(at)
        at += draw.expovariate(rate_per_second)
    return times


def _chat(number: int, seed: int) -> Ask:
    first, second = _draw(number, seed).sample(WORDS, 2)
    question = f"{seed}.{number}: write a Python function that maps each {first} to its {second}."
    return Ask(kind="chat", prompt=question, max_tokens=64)


def _long_prompt(number: int, seed: int) -> Ask:
    beginning = f"# module {seed}.{number}\n"
    return Ask(kind="complete", prompt=beginning + code(number, seed, 75), max_tokens=16)


def _shared_prefix(number: int, seed: int) -> Ask:
    question = f"\n# {number}: a function that uses {_draw(number, seed).choice(WORDS)}\ndef "
    return Ask(kind="complete", prompt=code(0, seed, 75) + question, max_tokens=16)


def _fim(number: int, seed: int) -> Ask:
    before = f"# {seed}.{number}\n" + code(number, seed, 3) + "\n\ndef largest(values):\n    "
    return Ask(kind="fim", prompt=before, suffix="\n    return best\n", max_tokens=16)


def _mixed(number: int, seed: int) -> Ask:
    if number % 4 == 0:
        return msgspec.structs.replace(_long_prompt(number, seed), label="long")
    prompt = f"# {seed}.{number}\n{code(number, seed, 2)}\n\ndef "
    return Ask(kind="complete", prompt=prompt, max_tokens=16, label="short")


def code(number: int, seed: int | str, num_functions: int) -> str:
    """Return plausible code, about 25 tokens a function."""
    draw = _draw(number, seed)
    functions = []
    for at in range(num_functions):
        name, left, right = draw.sample(WORDS, 3)
        functions.append(f"def {name}_{at}({left}, {right}):\n    return {left} + {right} * {at}\n")
    return "\n".join(functions)


def _draw(number: int, seed: int | str) -> random.Random:
    return random.Random(f"{seed}/{number}")  # noqa: S311  # load, not secrets
