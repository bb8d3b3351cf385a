"""`python -m clients`: pick a command, turn errors into one line and an exit status.

Status 0 is success, 1 a check that failed or a server that did, 2 a mistake of the caller.
Knows no command's work.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys

from clients.errors import (
    AuthenticationError,
    BadRequestError,
    ClientError,
    NotFoundError,
    UnreachableError,
    UsageError,
)

COMMANDS = {
    "chat": "ask a question, or talk at the terminal",
    "complete": "continue a prompt",
    "fim": "fill the gap at FILE:LINE[:COL]",
    "edit": "change a file by an instruction, after your consent",
    "commit": "write the message for what is staged, and commit after your consent",
    "explain": "say what a file, a range of lines or standard input does",
    "tests": "write tests for a module or a function of it",
    "models": "list what the server offers",
    "setup": "configure an editor for the model served",
    "doctor": "check a server and measure it",
    "evaluate": "solve programming problems in a sandbox, and score",
    "bench": "put a server under load and measure the waiting",
}
EPILOG = """\
examples:
  python -m clients chat "Write a function that parses ISO dates."
  git diff | python -m clients chat --stdin "Review this."
  python -m clients fim src/app.py:42
  python -m clients doctor --base-url http://127.0.0.1:11434/v1 --json

Any OpenAI-compatible server will do.
"""
DEPENDENCIES = {"httpx", "rich", "ruamel", "tomlkit"}
CALLERS_MISTAKES = (
    UsageError,
    UnreachableError,
    AuthenticationError,
    BadRequestError,
    NotFoundError,
)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # models write what not every terminal can show
    try:
        status: int = importlib.import_module(f"clients.commands.{args.command}").run(args)
        sys.stdout.flush()
    except ClientError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, CALLERS_MISTAKES) else 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130
    except ModuleNotFoundError as error:
        if error.name not in DEPENDENCIES:
            raise
        remedy = 'install it with: pip install "edgesmith[clients]"'
        sys.stderr.write(f"error: clients needs {error.name}; {remedy}\n")
        return 2
    except BrokenPipeError:
        # The reader of our output left, as `head` does; Python must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m clients",
        description="Use and measure an OpenAI-compatible server.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, phrase in COMMANDS.items():
        command = importlib.import_module(f"clients.commands.{name}")
        subparser = commands.add_parser(
            name,
            help=phrase,
            description=phrase[0].upper() + phrase[1:] + ".",
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_parser(subparser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
