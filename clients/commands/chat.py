"""`chat`: ask once, or talk at the terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from clients.commands.connection import add_sampling_flags, add_server_flags, connected, sampling
from clients.commands.conversation import Conversation, read_message
from clients.commands.terminal import note, read_input, write_json, write_stream
from clients.errors import ClientError, UnreachableError, UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from clients.calls import ChatOptions
    from clients.client import Client

EXAMPLES = """\
examples:
  python -m clients chat "Write a function that parses ISO dates."
  git diff | python -m clients chat --stdin "Review this."
  python -m clients chat --system "Answer with code only."
"""


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "message",
        nargs="?",
        help="ask this and leave; default: standard input, or a talk when that is a terminal",
    )
    parser.add_argument("--stdin", action="store_true", help="append standard input to the message")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    add_server_flags(parser)
    add_sampling_flags(parser, max_tokens=1024)  # small models may never stop
    parser.add_argument("--json", action="store_true", help="write the whole answer as JSON")


def run(args: argparse.Namespace) -> int:
    """Answer once, or as often as the user asks."""
    conversation = Conversation(args.system)
    options = cast("ChatOptions", sampling(args))  # the flags that chat shares
    if args.message is None and sys.stdin.isatty():
        if args.json:
            raise UsageError("--json needs a message: chat --json MESSAGE")
        with connected(args) as client:
            _talk(client, conversation, options)
        return 0
    messages = conversation.messages(_question(args.message, appends_input=args.stdin))
    with connected(args) as client:
        if args.json:
            write_json(client.chat(messages, **options))
            return 0
        with client.stream_chat(messages, **options) as stream:
            write_stream(stream)
    return 0


def _question(message: str | None, *, appends_input: bool) -> str:
    """Join the argument and standard input.

    Beside a message it is read only when asked for: an inherited pipe may never end.
    """
    piped = read_input() if appends_input or message is None else ""
    text = "\n\n".join(part for part in (message, piped.rstrip("\n")) if part)
    if not text.strip():
        raise UsageError('nothing to ask; try: chat "Write a function that adds two numbers."')
    return text


def _talk(client: Client, conversation: Conversation, options: ChatOptions) -> None:
    note(f"{client.address.api_url}, model {client.model or 'unnamed'}; /help lists the commands")
    with _line_history():
        while True:
            try:
                text = read_message(input)
            except EOFError:
                note("")
                return
            except KeyboardInterrupt:
                note("")  # drop the line, as a shell does
                continue
            if not _obey(client, conversation, text, options):
                return


def _obey(client: Client, conversation: Conversation, text: str, options: ChatOptions) -> bool:
    """Do what one message says; return whether the talk goes on."""
    try:
        if text.startswith("/"):
            reply = conversation.command(text)
            if reply is None:
                return False
            note(reply)
        elif text.strip():
            _answer(client, conversation, text, options)
    except UnreachableError as error:
        note(f"error: {error} (the conversation is kept)")
    except ClientError as error:
        note(f"error: {error}")
    return True


def _answer(client: Client, conversation: Conversation, text: str, options: ChatOptions) -> None:
    """Stream an answer. An interrupted or failed one is not remembered."""
    try:
        with client.stream_chat(conversation.messages(text), **options) as stream:
            answer = write_stream(stream)
    except KeyboardInterrupt:
        note("\n(stopped; this turn is forgotten)")
        return
    conversation.remember(text, answer)


@contextmanager
def _line_history() -> Iterator[None]:
    """Give `input` editing and yesterday's lines, where the system has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    from pathlib import Path

    import platformdirs

    file = Path(platformdirs.user_state_dir("edgesmith")) / "chat_history"
    with suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(1000)
        with suppress(OSError):  # a home that cannot be written loses the history, not the talk
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
