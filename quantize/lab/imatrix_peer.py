"""Importance matrices beside llama-imatrix: a development command that prints one table.

    python -m quantize.lab.imatrix_peer MODEL-f16.gguf TEXT --peer llama-imatrix

Both read the same tokens in the same chunks. Told is how far the mean squares are apart by kind of
weight: the column that differs most, and all columns together.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from quantize.errors import ImatrixError, QuantizeError
from quantize.examples import text_file
from quantize.imatrix import file as imatrix
from quantize.imatrix.collect import collect
from quantize.imatrix.file import Entry
from quantize.llama.session import LlamaSession

_BLOCK = re.compile(r"blk\.\d+\.")


def chunks_of(model: Path, text: str, size: int, count: int) -> list[list[int]]:
    """Return the chunks llama-imatrix reads: whole ones only."""
    with LlamaSession(model, n_ctx=16, n_batch=16) as session:
        ids = session.tokenize(text, parse_special=False, add_special=True)
    starts = range(0, min(len(ids) - size + 1, size * count), size)
    return [ids[start : start + size] for start in starts]


def theirs(peer: str, model: Path, text: Path, size: int, count: int) -> dict[str, Entry]:
    """Return what llama-imatrix finds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "theirs.gguf"
        command = [peer, "-m", str(model), "-f", str(text), "-o", str(out), "--no-ppl"]
        command += ["-c", str(size), "-b", str(size), "--chunks", str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ImatrixError(f"{peer} ended with status {done.returncode}: {done.stderr[-300:]}")
        return imatrix.read(out).entries


def deviations(
    ours: Mapping[str, Entry], others: Mapping[str, Entry]
) -> dict[str, tuple[int, float, float]]:
    """Return by kind: how many weights, the largest share a column differs by, and that of all.

    Raises:
        ImatrixError: for a weight the other side has and we lack, or other counts.
    """
    found: dict[str, tuple[int, float, float]] = {}
    for name, other in others.items():
        mine = ours.get(name)
        if mine is None or not np.array_equal(mine.counts, other.counts):
            raise ImatrixError(f"{name} saw other tokens on the two sides")
        left, right = mine.means().astype(np.float64), other.means().astype(np.float64)
        column = float(np.abs(left / right - 1).max())
        whole = float(np.abs(left - right).sum() / right.sum())
        kind = _BLOCK.sub("", name)
        number, *before = found.get(kind, (0, 0.0, 0.0))
        found[kind] = (number + 1, max(column, before[0]), max(whole, before[1]))
    return found


def table(found: Mapping[str, tuple[int, float, float]]) -> Iterator[str]:
    """Yield the table's lines."""
    yield "| weight | layers | largest deviation of a column | of all columns together |"
    yield "|---|---|---|---|"
    for kind, (number, column, whole) in sorted(found.items()):
        yield f"| {kind} | {number} | {column:.1e} | {whole:.1e} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m quantize.lab.imatrix_peer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="a 16-bit GGUF")
    parser.add_argument("text", type=Path, help="a text to collect on")
    parser.add_argument("--peer", default="llama-imatrix", help="its path")
    parser.add_argument("--chunk", type=int, default=512, help="tokens read at once")
    parser.add_argument("--chunks", type=int, default=8)
    options = parser.parse_args(arguments)
    try:
        text, _ = text_file(options.text)
        chunks = chunks_of(options.model, text, options.chunk, options.chunks)
        others = theirs(options.peer, options.model, options.text, options.chunk, options.chunks)
        ours = collect(options.model, chunks, n_batch=options.chunk).entries
        for line in table(deviations(ours, others)):
            print(line)
    except (QuantizeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
