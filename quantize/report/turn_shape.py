"""The shape of a simple chat template, found by asking it: what stands around each role's words.

A template has this shape when rendering is nothing but

    for each message: before[role] + content + after[role]   and then before[assistant]

with a default opening in front when the conversation brings no system message. Whether it holds is
shown by rendering a set of conversations both ways, byte by byte; a template that trims, folds the
system message into a question or writes the date has no such shape.
"""

from collections.abc import Callable, Sequence

import msgspec

from quantize.errors import TemplateShapeError
from quantize.verify.cases import Message

_MARK = {"system": "\x02S\x03", "user": "\x02U\x03", "assistant": "\x02A\x03"}
Render = Callable[[Sequence[Message], bool], str]
"""Render messages; the flag adds what stands before the answer."""

_BLANKS = "  blanks \n\n around\t\n"
_CONVERSATIONS: tuple[tuple[str, ...], ...] = (
    ("user", "Hi"),
    ("user", ""),
    ("user", _BLANKS),
    ("system", "Code only.", "user", "Größe → 大きさ 🙂"),
    ("system", "", "user", "a"),
    ("system", _BLANKS, "user", "a"),
    ("user", "First?", "assistant", "Yes.", "user", "Second?"),
    ("user", "a", "assistant", _BLANKS, "user", _BLANKS),
    ("user", "a", "assistant", "", "user", "b", "assistant", "c", "user", "d"),
    ("system", "s", "user", "<b>&{{ x }}</b>", "assistant", "'\"\\", "user", "\r\n"),
)


class TurnShape(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the pieces that never change; `default` opens a conversation with no system message."""

    default: str
    before: dict[str, str]
    after: dict[str, str]

    def render(self, messages: Sequence[Message]) -> str:
        """Return the prompt of a conversation that ends with a question."""
        has_system = messages[0]["role"] == "system"
        parts = ["" if has_system else self.default]
        for message in messages:
            role = message["role"]
            parts.append(f"{self.before[role]}{message['content']}{self.after[role]}")
        return "".join([*parts, self.before["assistant"]])


def find_shape(render: Render, source: str | None) -> TurnShape:
    """Return the shape of the template `source`, proven on a set of conversations.

    Raises:
        TemplateShapeError: with the first difference, when the template has no such shape.
    """
    if source is None:
        raise TemplateShapeError("the file has no chat template")
    if "strftime_now" in source:
        raise TemplateShapeError("the chat template writes the date, which changes")
    shape = _pieces(render)
    for flat in _CONVERSATIONS:
        messages = _messages(flat)
        wanted, found = render(messages, True), shape.render(messages)
        if wanted != found:
            place = next(
                (i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b),
                min(len(wanted), len(found)),
            )
            raise TemplateShapeError(
                f"the chat template does more than put words between roles: for the roles "
                f"{', '.join(flat[::2])} it writes {wanted[place : place + 24]!r} where its turns "
                f"alone would give {found[place : place + 24]!r}"
            )
    return shape


def _pieces(render: Render) -> TurnShape:
    user, assistant = _MARK["user"], _MARK["assistant"]
    default, after_user = _around(render(_messages(("user", user)), False), user)
    generation = _tail(render(_messages(("user", user)), True), default + user + after_user)
    answered = _tail(
        render(_messages(("user", user, "assistant", assistant)), False), default + user
    )
    between, after_assistant = _around(answered, assistant)
    if between != after_user + generation:
        raise TemplateShapeError(
            f"the chat template opens an answer with {between!r} in the history and with "
            f"{after_user + generation!r} when one is wanted"
        )
    second = _tail(
        render(_messages(("user", user, "assistant", assistant, "user", user)), False),
        default + user + between + assistant + after_assistant,
    )
    before_user, _ = _around(second, user)
    system = render(_messages(("system", _MARK["system"], "user", user)), False)
    before_system, rest = _around(system, _MARK["system"])
    after_system, _ = _around(rest, user)
    if not default.endswith(before_user) or not after_system.endswith(before_user):
        raise TemplateShapeError(
            f"the chat template opens its first question with {default!r} and later ones with "
            f"{before_user!r}"
        )
    return TurnShape(
        default=default.removesuffix(before_user),
        before={"system": before_system, "user": before_user, "assistant": generation},
        after={
            "system": after_system.removesuffix(before_user),
            "user": after_user,
            "assistant": after_assistant,
        },
    )


def _messages(flat: Sequence[str]) -> list[Message]:
    return [
        {"role": role, "content": content}
        for role, content in zip(flat[::2], flat[1::2], strict=True)
    ]


def _around(text: str, mark: str) -> tuple[str, str]:
    before, found, after = text.partition(mark)
    if not found or mark in after:
        raise TemplateShapeError("the chat template does not write each message exactly once")
    return before, after


def _tail(text: str, head: str) -> str:
    if not text.startswith(head):
        raise TemplateShapeError("the chat template writes a turn otherwise when more turns follow")
    return text[len(head) :]
