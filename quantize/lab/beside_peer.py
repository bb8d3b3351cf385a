"""Our quantizing beside llama-quantize's: a development command, in turns on the same file.

Ours is timed twice: the library's work alone, and with it the rest of a run's step (the result
written through to the disk, read and hashed).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from quantize.errors import LibraryError, QuantizeError
from quantize.llama.gguf_header import read_header
from quantize.llama.metadata import file_keys
from quantize.llama.quant_types import QuantType, resolve
from quantize.llama.quantizer import TypeChoice, quantize_file
from quantize.machine import num_cores, own_peak_bytes
from quantize.resume import Ledger

_CHUNK_BYTES = 16 << 20


def compare(model: Path, peer: Path, entry: QuantType, rounds: int, folder: Path) -> dict[str, Any]:
    """Return medians in seconds, their ratio, our peak memory, and whether both wrote the same."""
    ledger = Ledger(folder, config_hash="")
    ours, theirs = folder / "ours.gguf", folder / "theirs.gguf"
    seconds: dict[str, list[float]] = {"quantize": [], "step": [], "peer": []}
    for _ in range(rounds):
        started = time.perf_counter()
        partial = ours.with_suffix(".partial")
        quantize_file(model, partial, TypeChoice(quant_type=entry), keys=file_keys(entry.name, ""))
        seconds["quantize"].append(time.perf_counter() - started)
        ledger.admit(partial, ours)
        seconds["step"].append(time.perf_counter() - started)
        started = time.perf_counter()
        _run(peer, model, theirs, entry)
        seconds["peer"].append(time.perf_counter() - started)
    medians = {f"{name}_seconds": statistics.median(each) for name, each in seconds.items()}
    return {
        "type": entry.name,
        "rounds": rounds,
        "threads": num_cores(),
        **medians,
        "ratio": medians["quantize_seconds"] / medians["peer_seconds"],
        "step_ratio": medians["step_seconds"] / medians["peer_seconds"],
        "peak_bytes": own_peak_bytes(),
        "source_bytes": model.stat().st_size,
        "same_tensors": _same_tensors(ours, theirs),
    }


def _run(peer: Path, model: Path, target: Path, entry: QuantType) -> None:
    command = [str(peer), str(model), str(target), entry.name.upper(), str(num_cores())]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise LibraryError(f"{peer.name} ended with status {done.returncode}: {said[-1]}")


def _same_tensors(ours: Path, theirs: Path) -> bool:
    """Say whether both files hold the same bytes behind their metadata."""
    headers = [read_header(path) for path in (ours, theirs)]
    described = [[(t.name, t.type_name, t.offset) for t in header.tensors] for header in headers]
    if described[0] != described[1]:
        return False
    with ours.open("rb") as left, theirs.open("rb") as right:
        left.seek(headers[0].data_offset)
        right.seek(headers[1].data_offset)
        while chunk := left.read(_CHUNK_BYTES):
            if chunk != right.read(len(chunk)):
                return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m quantize.lab.beside_peer", description=__doc__)
    parser.add_argument("model", type=Path, help="a 16-bit GGUF")
    parser.add_argument("--peer", type=Path, required=True, help="llama-quantize")
    parser.add_argument("--type", default="q4_k_m")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    try:
        (entry,) = resolve([options.type], has_imatrix=False)
        with tempfile.TemporaryDirectory(dir=options.model.parent, suffix=".partial") as folder:
            found = compare(options.model, options.peer, entry, options.rounds, Path(folder))
    except (QuantizeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
