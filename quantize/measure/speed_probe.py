"""One file in a process of its own: how long it loads, what memory it takes, how fast it is.

A fresh process, since the memory of one that held other models before says nothing. Run as
`python -m quantize.measure.speed_probe`: a `SpeedProbe` as JSON on stdin, a `Sample` on stdout.
"""

import subprocess
import sys
import time
from pathlib import Path

import msgspec

from quantize.errors import LibraryError, QuantizeError
from quantize.machine import own_peak_bytes


class SpeedProbe(msgspec.Struct, frozen=True, kw_only=True):
    """Say what to load and what to time."""

    path: str
    context: int
    kv_type: str
    prefill_tokens: int
    prefill_rows: tuple[int, ...]
    decode_tokens: int
    decode_sequences: tuple[int, ...]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what one process saw. Rates are tokens per second."""

    load_seconds: float
    """From the page cache where the file was read before; the context included."""
    resident_bytes: int | None
    """Highest resident memory with a context of the asked length; None where it is not told."""
    prefill: dict[int, float]
    decode: dict[int, float]


def run(probe: SpeedProbe) -> Sample:
    """Carry out a probe in a new process.

    Raises:
        LibraryError: when llama.cpp refuses the file or the KV cache type.
    """
    done = subprocess.run(
        [sys.executable, "-m", "quantize.measure.speed_probe"],
        input=msgspec.json.encode(probe),
        capture_output=True,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        last = said[-1].removeprefix("error: ") if said else f"exit status {done.returncode}"
        raise LibraryError(f"measuring {Path(probe.path).name} with a {probe.kv_type} KV: {last}")
    return msgspec.json.decode(done.stdout, type=Sample)


def _sample(probe: SpeedProbe) -> Sample:
    from quantize.llama.parallel_session import ParallelSession
    from quantize.measure.throughput import measure_throughput

    sequences = max(probe.decode_sequences)
    room = probe.prefill_tokens + sequences * probe.decode_tokens
    started = time.perf_counter()
    session = ParallelSession(
        Path(probe.path),
        n_ctx=max(probe.context, room),
        n_batch=max(*probe.prefill_rows, *probe.decode_sequences),
        num_sequences=sequences,
        kv_type=probe.kv_type,
    )
    loaded = time.perf_counter() - started
    with session:
        rates = measure_throughput(
            session,
            prefill_tokens=probe.prefill_tokens,
            prefill_rows=probe.prefill_rows,
            decode_tokens=probe.decode_tokens,
            decode_sequences=probe.decode_sequences,
        )
    return Sample(
        load_seconds=loaded,
        resident_bytes=own_peak_bytes(),
        prefill=rates.prefill,
        decode=rates.decode,
    )


def main() -> int:
    """Read a probe, write a sample."""
    try:
        sample = _sample(msgspec.json.decode(sys.stdin.buffer.read(), type=SpeedProbe))
    except QuantizeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    sys.stdout.buffer.write(msgspec.json.encode(sample))
    return 0


if __name__ == "__main__":
    sys.exit(main())
