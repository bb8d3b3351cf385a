"""One function per ability: ask the server, judge the answer, name the remedy.

Every function takes a client and returns one Check; none raises for what a server does wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from clients.errors import BadRequestError, ClientError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.client import Client

Outcome = Literal["ok", "warning", "failed"]
QUESTION = "Write a Python function that returns the larger of two numbers."
FIM_PREFIX = 'def add(a, b):\n    """Return the sum."""\n    return '
FIM_SUFFIX = "\n\n\nprint(add(1, 2))\n"


SUMS = "What is 2 + 3? Answer with JSON: the key sum, and the number."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Look up the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Sum(msgspec.Struct, frozen=True):
    """What the check of structured output asks for."""

    sum: int


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about one ability. `remedy` is empty when there is nothing to do."""

    name: str
    outcome: Outcome
    detail: str
    remedy: str = ""


def reach(client: Client) -> Check:
    """See whether anything answers."""
    try:
        models = client.models()
    except UnreachableError as error:
        return _failed("reach", str(error), f"start a server at {client.address.api_url}")
    except ClientError as error:
        return _failed("reach", str(error), "check --base-url and the key")
    names = ", ".join(model.id for model in models)
    if not models:
        return _failed("reach", "the server lists no model", "load a model")
    return Check(name="reach", outcome="ok", detail=f"serves {names}")


def context(client: Client) -> Check:
    """See whether the context is known and large enough for editing."""
    models = client.models()
    chosen = next((model for model in models if model.id == client.model), models[0])
    length = chosen.context_length
    if length is None:
        return Check(
            name="context",
            outcome="warning",
            detail="the server does not say how long its context is",
            remedy="some editors read meta.n_ctx or max_model_len from /v1/models: set it by hand",
        )
    if length < 4096:
        return Check(
            name="context",
            outcome="warning",
            detail=f"{length} tokens",
            remedy="one file of an editor may need more; serve with a context of 4096 or more",
        )
    return Check(name="context", outcome="ok", detail=f"{length} tokens")


def chat(client: Client) -> Check:
    """Ask one question without streaming."""
    try:
        answer = client.chat(QUESTION, max_tokens=16, temperature=0.0)
    except ClientError as error:
        return _failed(
            "chat", str(error), "the model may lack a chat template; see the server's log"
        )
    if not answer.text.strip():
        return _failed("chat", "the answer is empty", "check the chat template and its end token")
    return Check(name="chat", outcome="ok", detail=f"{answer.text.strip()[:40]!r}")


def streaming(client: Client) -> Check:
    """Ask with streaming, and look for usage at the end."""
    try:
        with client.stream_chat(QUESTION, max_tokens=8, temperature=0.0) as stream:
            num_pieces = sum(1 for chunk in stream if chunk.text)
    except ClientError as error:
        return _failed("streaming", str(error), "editors need streams; see the server's log")
    if num_pieces == 0:
        return _failed("streaming", "the stream brought no text", "see the server's log")
    if stream.usage is None:
        return Check(
            name="streaming",
            outcome="warning",
            detail=f"{num_pieces} pieces, but no usage at the end",
            remedy="clients cannot show token counts; use a server that honours "
            "stream_options.include_usage",
        )
    return Check(
        name="streaming",
        outcome="ok",
        detail=f"{num_pieces} pieces, {stream.usage.completion_tokens} tokens counted",
    )


def fim(client: Client) -> Check:
    """Fill a gap by /infill, else by a completion with a suffix."""
    routes: dict[str, Callable[[], str]] = {
        "/infill": lambda: client.fim(FIM_PREFIX, FIM_SUFFIX, max_tokens=8).text,
        "/v1/completions with suffix": lambda: (
            client.complete(FIM_PREFIX, suffix=FIM_SUFFIX, max_tokens=8).text
        ),
    }
    reasons = []
    for route, ask in routes.items():
        try:
            text = ask()
        except (BadRequestError, NotFoundError) as error:
            reasons.append(f"{route}: {error.message}")
        except ClientError as error:
            return _failed("fim", f"{route}: {error}", "see the server's log")
        else:
            return Check(name="fim", outcome="ok", detail=f"{route} gave {text.strip()[:40]!r}")
    return Check(
        name="fim",
        outcome="warning",
        detail="; ".join(reasons),
        remedy="for completion in editors serve a model trained to fill in the middle, "
        "such as Qwen2.5-Coder",
    )


def structured(client: Client) -> Check:
    """Ask for JSON of a schema."""
    try:
        answer = client.chat_as(SUMS, Sum, max_tokens=32, temperature=0.0)
    except ClientError as error:
        return Check(
            name="structured",
            outcome="warning",
            detail=str(error),
            remedy="answers are not held to a schema; use a server that honours response_format",
        )
    return Check(name="structured", outcome="ok", detail=f"the schema was kept: {answer}")


def tools(client: Client) -> Check:
    """Force a call of a function, as agents do."""
    choice = {"type": "function", "function": {"name": "get_weather"}}
    try:
        answer = client.chat(
            "What is the weather in Oslo?",
            tools=[WEATHER],
            tool_choice=choice,
            max_tokens=64,
            temperature=0.0,
        )
    except ClientError as error:
        detail = str(error)
    else:
        message = answer.choices[0].message if answer.choices else None
        functions = [call.function for call in (message and message.tool_calls) or ()]
        called = next((each for each in functions if each), None)
        if called is not None:
            return Check(name="tools", outcome="ok", detail=f"{called.name}({called.arguments})")
        detail = "a forced call did not come"
    return Check(
        name="tools",
        outcome="warning",
        detail=detail,
        remedy="agents need tool calls; use a server and a model that have them",
    )


def _failed(name: str, detail: str, remedy: str) -> Check:
    return Check(name=name, outcome="failed", detail=detail, remedy=remedy)
