"""The console script `edgesmith`: start the stage that a word names.

Knows the stages by name only and imports none of them: each runs as `python -m` would run it, so
that a stage whose dependencies are missing does not hinder the others. Several in a row get a
process each: what one loads and patches is gone when the next begins.
"""

from __future__ import annotations

import runpy
import signal
import subprocess
import sys
from difflib import get_close_matches
from importlib import metadata

STAGES = {
    "train": ("finetune", "fine-tune a base model on examples, into an adapter"),
    "quantize": ("quantize", "merge, convert and quantize a run into GGUF files"),
    "serve": ("serve", "serve a GGUF to OpenAI clients and editors"),
}
CLIENT_COMMANDS = {
    "chat": "ask a question, or talk at the terminal",
    "complete": "continue a prompt",
    "fim": "fill the gap at FILE:LINE[:COL]",
    "edit": "change a file by an instruction, after your consent",
    "commit": "write the message for what is staged, and commit after your consent",
    "explain": "say what a file, a range of lines or standard input does",
    "tests": "write tests for a module or a function of it",
    "models": "list what a server offers",
    "setup": "configure an editor for the model served",
    "doctor": "check a server and measure it",
    "evaluate": "solve programming problems in a sandbox, and score",
    "bench": "put a server under load and measure the waiting",
}
USAGE = """\
usage: edgesmith COMMAND [ARGUMENTS]
       edgesmith STAGE STAGE ...      several stages, one after the other, with their defaults
       edgesmith --help | --version

stages:
{stages}

clients of a running server:
{clients}

examples:
  edgesmith train quantize serve
  edgesmith serve --model model.gguf --port 8080
  edgesmith chat "Write a function that parses ISO dates."

`edgesmith COMMAND --help` lists a command's arguments.
"""


def main(argv: list[str] | None = None) -> int:
    """Run what the arguments name; return the exit status of the last thing run."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        sys.stdout.write(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        sys.stdout.write(f"edgesmith {_version()}\n")
        return 0
    if len(arguments) > 1 and all(word in STAGES for word in arguments):
        return _run_in_turn(arguments)
    return _run(arguments[0], arguments[1:])


def usage() -> str:
    """Return the help text."""

    def column(rows: dict[str, str]) -> str:
        return "\n".join(f"  {name:<10} {phrase}" for name, phrase in rows.items())

    stages = {name: phrase for name, (_, phrase) in STAGES.items()}
    return USAGE.format(stages=column(stages), clients=column(CLIENT_COMMANDS))


def _run_in_turn(stages: list[str]) -> int:
    for stage in stages:
        sys.stderr.write(f"edgesmith: {stage}\n")
        status = _run_apart(stage)
        if status:
            sys.stderr.write(f"edgesmith: {stage} failed with status {status}; stopped there\n")
            return status
    return 0


def _run_apart(stage: str) -> int:
    """Run a stage in a process of its own, which gets to handle ^C and SIGTERM itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with subprocess.Popen([sys.executable, "-m", "clients.edgesmith", stage]) as child:
        signal.signal(signal.SIGINT, lambda *_: None)  # the terminal sends it to the child too
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            status = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _run(command: str, arguments: list[str]) -> int:
    if command in STAGES:
        return _run_module(STAGES[command][0], arguments)
    if command in CLIENT_COMMANDS:
        return _run_module("clients", [command, *arguments])
    known = [*STAGES, *CLIENT_COMMANDS]
    close = get_close_matches(command, known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    sys.stderr.write(f"error: there is no {command!r}; {hint}known: {', '.join(known)}\n")
    return 2


def _run_module(module: str, arguments: list[str]) -> int:
    """Run `python -m module` in this process and return its exit status."""
    before = sys.argv
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return _status(end.code)
    except ModuleNotFoundError as error:
        if error.name is None or _is_ours(error.name):
            raise
        sys.stderr.write(
            f"error: {module} needs {error.name}, which is not installed; "
            f'install it with: pip install "edgesmith[{module}]"\n'
        )
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130
    finally:
        sys.argv = before
    return 0


def _status(code: object) -> int:
    """Read what SystemExit carries as Python itself does."""
    if code is None or isinstance(code, int):
        return code or 0
    sys.stderr.write(f"{code}\n")
    return 1


def _is_ours(module: str) -> bool:
    """Tell a broken checkout from a missing dependency."""
    return module.partition(".")[0] in {"clients", *(name for name, _ in STAGES.values())}


def _version() -> str:
    try:
        return metadata.version("edgesmith")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    raise SystemExit(main())
