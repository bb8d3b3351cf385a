"""Run the test suite that llama.cpp's own server brings, against this server.

    python tests/serve/llama_server_suite/run.py --sdist .cache/llama_cpp_python-0.3.36.tar.gz

A development command: the suite is unpacked from the source archive that the runtime is built from
into a folder that is removed again, and served with SmolLM2 instead of a model from a hub. What
asks for that other model's words, or for what this server does not have, is counted as not
applicable and says why (`--reasons`). Prints one line a file.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from loosened import loosen

HERE = Path(__file__).resolve().parent
SUITE = "vendor/llama.cpp/tools/server/tests/"
TEMPLATES = "vendor/llama.cpp/models/templates/"
COLUMNS = ("passed", "failed", "not applicable")
LAUNCHER = '#!/bin/sh\nexec "{python}" "{launcher}" "$@"\n'
WGET = '"""The suite imports this to fetch models, which it is not asked to."""\n'


def main() -> int:
    """Run the files named, or all; return how many tests failed, at most 1 as an exit code."""
    args = parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="llama-server-suite-") as folder:
        tests = unpack(args.sdist, Path(folder))
        names = args.files or sorted(path.name for path in (tests / "unit").glob("test_*.py"))
        totals = dict.fromkeys(COLUMNS, 0)
        print(f"{'file':34}" + "".join(f"{column:>16}" for column in COLUMNS), flush=True)
        for name in names:
            found = run_file(tests, name, args)
            counts = {column: sum(1 for each in found if each[1] == column) for column in COLUMNS}
            totals = {column: totals[column] + counts[column] for column in COLUMNS}
            print(line(name, counts), flush=True)
            for test, outcome, reason in found if args.reasons else ():
                if outcome != "passed":
                    print(f"    {outcome}: {test}: {reason}", flush=True)
        print(line("all", totals))
    return min(totals["failed"], 1)


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sdist = os.environ.get("EDGESMITH_LLAMA_CPP_SDIST")
    parser.add_argument("--sdist", type=Path, default=sdist, required=sdist is None)
    model = Path("~/.cache/edgesmith/models/SmolLM2-135M-Instruct.Q4_1.gguf").expanduser()
    parser.add_argument("--model", type=Path, default=model, help="the GGUF to serve")
    parser.add_argument(
        "--fim-model", type=Path, help="one with fill-in-the-middle tokens, for test_infill.py"
    )
    parser.add_argument("--embedding-model", type=Path, help="for test_embedding.py")
    parser.add_argument("--reasons", action="store_true", help="say what failed or was left out")
    parser.add_argument("--seconds", type=int, default=900, help="time limit of one file")
    parser.add_argument("files", nargs="*", help="files of the suite, test_basic.py for example")
    return parser


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack the suite and what it reads, make the launcher, and return the suite's folder."""
    with tarfile.open(sdist) as archive:
        root = archive.getnames()[0].partition("/")[0]
        wanted = tuple(f"{root}/{part}" for part in (SUITE, TEMPLATES))
        members = [member for member in archive if member.name.startswith(wanted)]
        archive.extractall(folder, members=members, filter="data")
    tests = folder / root / SUITE
    (tests / "wget.py").write_text(WGET, encoding="utf-8")
    loosen(tests)
    launcher = tests / "launcher"
    text = LAUNCHER.format(python=sys.executable, launcher=HERE / "launch.py")
    launcher.write_text(text, encoding="utf-8")
    launcher.chmod(0o755)
    return tests


def run_file(tests: Path, name: str, args: argparse.Namespace) -> list[list[str]]:
    """Return (test, outcome, reason) of each test in a file."""
    results = tests / f"{name}.results.jsonl"
    environment = os.environ | {
        "LLAMA_SERVER_BIN_PATH": str(tests / "launcher"),
        "PORT": str(free_port()),
        "PYTHONPATH": os.pathsep.join([str(tests), str(HERE), str(HERE.parents[2])]),
        "SUITE_MODEL": str(args.model),
        "SUITE_RESULTS": str(results),
    }
    if args.fim_model:
        environment["SUITE_FIM_MODEL"] = str(args.fim_model)
    if args.embedding_model:
        environment["SUITE_EMBEDDING_MODEL"] = str(args.embedding_model)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "reporting", "-m", "not slow"]
    options = ["-p", "no:cacheprovider", "--timeout", "180", "-W", "ignore", f"unit/{name}"]
    running = subprocess.Popen(
        [*command, *options],
        cwd=tests,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that its servers end with it
    )
    try:
        running.wait(args.seconds)
    except subprocess.TimeoutExpired:
        print(f"{name}: stopped after {args.seconds} s", file=sys.stderr)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    if not results.is_file():
        return [[name, "failed", "the file could not be collected"]]
    return [json.loads(each) for each in results.read_text(encoding="utf-8").splitlines()]


def line(name: str, counts: dict[str, int]) -> str:
    """Return a row of the table."""
    return f"{name:34}" + "".join(f"{counts[column]:16}" for column in COLUMNS)


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
