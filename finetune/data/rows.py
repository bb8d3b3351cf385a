"""Rows of the known formats as examples; a wrong row is named with what was expected.

    alpaca              instruction, input (optional), output
    messages            messages: [{role, content}, ...], the last by the assistant
    prompt_completion   prompt, completion
    sharegpt            conversations: [{from, value}, ...], the last by gpt
    preference          prompt, chosen, rejected: texts, or messages; the prompt may stand in both

Knows no files: a row arrives as decoded JSON with the place it came from.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from finetune.data.examples import Example, Message, conversation, make_example
from finetune.errors import DataError

Row = dict[str, Any]
REQUIRED = {
    "alpaca": ("instruction", "output"),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "sharegpt": ("conversations",),
    "preference": ("chosen", "rejected"),
}
SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "system": "system",
    "tool": "tool",
    "function_response": "tool",
}


def detect_format(row: Any, where: str) -> str:
    """Return the format whose fields a row has.

    Raises:
        DataError: none fits.
    """
    if isinstance(row, dict):
        for name, keys in REQUIRED.items():
            if all(key in row for key in keys):
                return name
    expected = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in REQUIRED.items())
    raise DataError(f"{where}: no known format (expected {expected}); found {_found(row)}")


def to_example(row: Any, *, format_name: str, system: str | None, where: str) -> Example:
    """Convert one row.

    Raises:
        DataError: a field is missing, of the wrong type, or the answer is empty.
    """
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, found {_found(row)}")
    missing = [key for key in REQUIRED[format_name] if key not in row]
    if missing:
        raise DataError(
            f"{where}: {format_name} rows need {', '.join(REQUIRED[format_name])}; missing "
            f"{', '.join(missing)}; found {_found(row)}"
        )
    example = CONVERTERS[format_name](row, system, where)
    if not example.messages[-1].content.strip():
        raise DataError(f"{where}: the answer is empty, so there is nothing to learn")
    return example


def _found(row: Any) -> str:
    if isinstance(row, dict):
        return f"keys {', '.join(map(str, row)) or '(none)'}"
    return f"{type(row).__name__}"


def _text(row: Row, key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{where}: `{key}` must be text, found {type(value).__name__}")
    return value


def _alpaca(row: Row, system: str | None, where: str) -> Example:
    prompt = _text(row, "instruction", where)
    if row.get("input"):
        prompt = f"{prompt}\n\n{_text(row, 'input', where)}"
    return conversation(prompt, _text(row, "output", where), system=system)


def _prompt_completion(row: Row, system: str | None, where: str) -> Example:
    return conversation(_text(row, "prompt", where), _text(row, "completion", where), system=system)


def _messages(row: Row, system: str | None, where: str) -> Example:
    try:
        turns = msgspec.convert(row["messages"], list[Message])
    except msgspec.ValidationError as error:
        raise DataError(
            f"{where}: messages must be a list of {{role, content}} objects: {error}"
        ) from error
    if not turns or turns[-1].role != "assistant":
        last = turns[-1].role if turns else "nothing"
        raise DataError(f"{where}: messages must end with an assistant turn, found {last}")
    if system and turns[0].role != "system":
        turns.insert(0, Message(role="system", content=system))
    return make_example(turns)


def _sharegpt(row: Row, system: str | None, where: str) -> Example:
    turns = row["conversations"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{where}: conversations must be a list of {{from, value}} objects")
    messages = [{"role": _role(turn, where), "content": turn.get("value")} for turn in turns]
    return _messages({"messages": messages}, system, where)


def _preference(row: Row, system: str | None, where: str) -> Example:
    """Build an example from the preferred answer, and keep the rejected one beside it."""
    prompt = _turns(row.get("prompt") or [], "user", f"{where}: prompt")
    sides = [_turns(row[key], "assistant", f"{where}: {key}") for key in ("chosen", "rejected")]
    chosen, rejected = (
        side if side and side[0]["role"] != "assistant" else prompt + side for side in sides
    )
    if chosen[:-1] != rejected[:-1]:
        raise DataError(f"{where}: chosen and rejected must answer the same conversation")
    example = _messages({"messages": chosen}, system, where)
    worse = _messages({"messages": rejected}, system, where).messages[-1].content
    if len(example.messages) < 2 or not worse.strip():
        raise DataError(f"{where}: a preference needs a question and two answers, none empty")
    if worse.strip() == example.messages[-1].content.strip():
        raise DataError(f"{where}: chosen and rejected are the same, so neither is preferred")
    return make_example(list(example.messages), rejected=worse)


def _turns(value: Any, role: str, where: str) -> list[Row]:
    """Return messages as they are, and a text as one message of a role."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return value
    raise DataError(f"{where} must be text or messages, found {type(value).__name__}")


def _role(turn: Row, where: str) -> str:
    role = SHAREGPT_ROLES.get(str(turn.get("from")))
    if role is None:
        raise DataError(
            f"{where}: a turn is from {turn.get('from')!r}; known are {', '.join(SHAREGPT_ROLES)}"
        )
    return role


CONVERTERS: dict[str, Callable[[Row, str | None, str], Example]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "sharegpt": _sharegpt,
    "preference": _preference,
}
