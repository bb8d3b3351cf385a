"""The `keystrokes` scenario: a recorded editing session, sent to a server as the editor sent it.

The hand waits for each answer, as llama.vim does, and then takes the time it took when it was
recorded. Knows no strategy of any server; tokens read are the server's own count.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from clients import calls, wire
from clients.bench.keystrokes import sessions
from clients.bench.summary import percentile
from clients.bench.workloads import WorkloadError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.async_client import AsyncClient
    from clients.bench.keystrokes.sessions import Keystroke
    from clients.bench.workloads import Figures, Turn

NUM_REQUESTS = 40  # from the session's beginning: the file is opened, and someone writes
RECORDED_ANSWER_SECONDS = 0.4  # that passed between two recorded requests without the hand's doing
MOST_PAUSE_SECONDS = 3.0
_OURS_TO_ASK = {"response_fields", "model"}  # the first hides counts, the second names no model


async def keystrokes(turn: Turn) -> Figures:
    """Replay the beginning of a session; each round of a comparison takes another one.

    Raises:
        WorkloadError: the server has no /infill, or the model cannot fill in the middle.
        ClientError: the server failed.
    """
    if turn.fim.kind != "infill":
        raise WorkloadError("no /infill, which the sessions were recorded at")
    names = sessions.names()
    name = names[_round(turn.key) % len(names)]
    strokes = _unknown(sessions.load(name)[:NUM_REQUESTS], turn.key)
    seconds: list[float] = []
    read: list[int | None] = []
    warm_ups: list[asyncio.Task[int | None]] = []  # nobody waits, but what they read counts
    try:
        for stroke, following in zip(strokes, [*strokes[1:], None], strict=True):
            if stroke.is_warm_up:
                warm_ups.append(asyncio.create_task(_send(turn.client, stroke)))
            else:
                began = time.perf_counter()
                read.append(await _send(turn.client, stroke))
                seconds.append(time.perf_counter() - began)
            await asyncio.sleep(pause_seconds(stroke, following))
        read += await asyncio.gather(*warm_ups)
    finally:
        for task in warm_ups:
            task.cancel()
    known = [number for number in read if number is not None]
    return {
        "requests": float(len(strokes)),
        "read_tokens": sum(known) / len(read) if len(known) == len(read) else None,
        "answer_p50_seconds": percentile(seconds, 50),
        "answer_p95_seconds": percentile(seconds, 95),
    }


def _unknown(strokes: Sequence[Keystroke], key: str) -> list[Keystroke]:
    """Rename the commonest word of the session after this turn, so that no cache knows its text."""
    words = Counter(re.findall(r"\b[a-z]{4,}\b", strokes[0].body["input_prefix"]))
    word = words.most_common(1)[0][0] if words else "self"
    renamed = f"{word}{hashlib.sha256(key.encode()).hexdigest()[:4]}"
    return [
        msgspec.structs.replace(stroke, body=_renamed(stroke.body, word, renamed))
        for stroke in strokes
    ]


def _renamed(value: Any, word: str, renamed: str) -> Any:
    """Rename a word in every text of a body; the names of its fields stay."""
    if isinstance(value, str):
        return re.sub(rf"\b{word}\b", renamed, value)
    if isinstance(value, list):
        return [_renamed(each, word, renamed) for each in value]
    if isinstance(value, dict):
        return {name: _renamed(each, word, renamed) for name, each in value.items()}
    return value


def pause_seconds(stroke: Keystroke, following: Keystroke | None) -> float:
    """Return how long the hand takes from an answer to the next request."""
    if following is None:
        return 0.0
    answered = stroke.at_seconds + (0.0 if stroke.is_warm_up else RECORDED_ANSWER_SECONDS)
    return min(max(following.at_seconds - answered, 0.0), MOST_PAUSE_SECONDS)


def _round(key: str) -> int:
    """Return the round's number, which stands in the key of a turn before the scenario."""
    number = key.rsplit(".", 2)[-2:-1]
    return int(number[0]) if number and number[0].isdigit() else 0


async def _send(client: AsyncClient, stroke: Keystroke) -> int | None:
    """Return the prompt tokens that the server says it read."""
    body: dict[str, Any] = {
        name: value for name, value in stroke.body.items() if name not in _OURS_TO_ASK
    }
    if client.model is not None:
        body["model"] = client.model
    request = calls.Request(method="POST", path="/infill", payload=body)
    answer = await client.run(
        calls.Call(request=request, decode=lambda data: calls.read(data, wire.Infill))
    )
    return None if answer.timings is None else answer.timings.prompt_n
