"""Does a run killed at any moment end with the same bytes? A development command.

    run to the end ──▶ hashes      run, kill, run, kill, ... run to the end ──▶ the same hashes?

Each kill comes after a random part of the time the undisturbed run took, and takes the
children along. What follows `--` goes to `python -m quantize`.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from quantize.digest import sha256_file

_QUANTIZE = (sys.executable, "-m", "quantize")
_MOST_KILLS = 200
_LATEST_SHARE = 0.8
"""Of the undisturbed time; later moments are reached by what resumes."""


class Told(Exception):  # noqa: N818  # it tells how a command ended, it is not one of ours
    """Say that the command itself failed."""


def run(command: Sequence[str], home: Path, seconds: float | None) -> float | None:
    """Run a command; return how long it took, or None when it was killed after `seconds`.

    Raises:
        Told: when it fails by itself, with its last words.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        env=os.environ | {"EDGESMITH_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, words = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return None
    if process.returncode != 0:
        raise Told(words.decode(errors="replace").strip()[-400:])
    return time.monotonic() - start


def killed_until_done(
    command: Sequence[str], home: Path, whole_seconds: float, chance: random.Random
) -> list[float]:
    """Run a command again and again, killing it; return the moments of the kills.

    What is left to do shrinks, so that sooner or later a run is quicker than its kill.
    """
    moments: list[float] = []
    while len(moments) < _MOST_KILLS:
        moment = chance.uniform(0, _LATEST_SHARE * whole_seconds)
        if run(command, home, moment) is not None:
            return moments
        moments.append(moment)
    run(command, home, None)
    return moments


def hashes(home: Path) -> dict[str, str]:
    """Return the SHA-256 of every GGUF of the one run there is."""
    return {path.name: sha256_file(path) for path in home.glob("runs/quantize/*/*.gguf")}


def main(arguments: Sequence[str] | None = None, quantize: Sequence[str] = _QUANTIZE) -> int:
    """Run the command; 1 when a hash differs or anything unfinished stays."""
    parser = argparse.ArgumentParser(
        prog="python -m quantize.lab.killed_often", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs killed until they end")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("rest", nargs="*", metavar="-- ARGUMENTS", help="of python -m quantize")
    options = parser.parse_args(arguments)
    command = [*quantize, *options.rest]
    chance = random.Random(options.seed)  # noqa: S311  # moments, not secrets
    try:
        with tempfile.TemporaryDirectory() as scratch:
            return _rounds(command, Path(scratch), options.rounds, chance)
    except Told as told:
        print(f"error: the command failed: {told}", file=sys.stderr)
        return 2


def _rounds(command: Sequence[str], scratch: Path, count: int, chance: random.Random) -> int:
    seconds = run(command, scratch / "whole", None)
    assert seconds is not None  # no time was set for it
    wanted, num_kills, status = hashes(scratch / "whole"), 0, 0
    print(f"undisturbed: {seconds:.1f} s, {len(wanted)} files", flush=True)
    for number in range(1, count + 1):
        home = scratch / f"round-{number}"
        moments = killed_until_done(command, home, seconds, chance)
        num_kills += len(moments)
        left = [path.name for path in home.rglob("*.partial")]
        same = hashes(home) == wanted and not left
        status = status if same else 1
        told = ", ".join(f"{moment:.1f}" for moment in moments)
        verdict = "equal" if same else f"NOT equal, left over: {left}"
        print(f"round {number}: killed after {told or 'nothing'} s: {verdict}", flush=True)
    print(f"{num_kills} kills in {count} rounds", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
