"""Choose the file to serve from figures; knows no llama.cpp call, only headers and numbers.

Of the files that fit the room, those within the quality bounds compete on decode
speed. Timings vary, so speeds that differ by less than a tenth count as equal, and so do those
whose order is not the same in every round; the smallest of the equally fast wins. When none is
within the bounds, the closest does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from quantize.config import RecommendConfig
from quantize.llama.gguf_header import read_header
from quantize.llama.inspect_gguf import kv_cache_bytes
from quantize.measure.measurements import Measurement
from quantize.report.room import Room, needed_bytes
from quantize.run import SCHEMA_VERSION, write_json

FILE = "recommendation.json"
_NEARLY_AS_FAST = 0.9


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one file and what is known of it."""

    file: str
    file_bytes: int
    memory_bytes: int
    kv_bytes: int = 0
    """The part of the memory that is an f16 KV cache."""
    figures: dict[str, Any] | None
    """None when it was measured on no machine."""
    measured_here: bool
    decode_rounds: tuple[float, ...] = ()
    """Its rate in each round of this machine's timings, in which files took turns."""

    @property
    def mean_kld(self) -> float:
        """Return its distance from the reference; the reference itself has none."""
        return float((self.figures or {}).get("mean_kld_nats") or 0.0)

    @property
    def perplexity_ratio(self) -> float:
        """Return its perplexity over the reference's."""
        return float((self.figures or {}).get("perplexity_ratio") or 1.0)

    @property
    def decode_speed(self) -> float:
        """Return tokens per second, 0 when not known for this machine."""
        return self.speed("decode_tokens_per_second")

    def as_fast_as(self, other: "Candidate") -> bool:
        """Say whether its speed cannot be told from a higher one, round by round where timed so."""
        rounds = list(zip(self.decode_rounds, other.decode_rounds, strict=False))
        won = any(mine >= theirs for mine, theirs in rounds) and len(rounds) > 1
        return won or self.decode_speed >= _NEARLY_AS_FAST * other.decode_speed

    def speed(self, key: str) -> float:
        """Return one of its rates on this machine, 0 when not known."""
        known = (self.figures or {}).get(key)
        return float(known) if known and self.measured_here else 0.0


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """Name the chosen file, or none and what to give up."""

    schema_version: int = SCHEMA_VERSION
    file: str | None
    reason: str
    pareto_front: tuple[str, ...] = ()
    """Files that no other beats in both bytes and distance, smallest first."""
    ram_bytes: int | None = None
    """What was asked for: the most that the server takes from now on."""
    context_tokens: int | None = None
    """What was asked for: the server's context from now on."""


def candidates(
    files: Sequence[tuple[Path, str]], known: Sequence[Measurement], machine_id: str, context: int
) -> list[Candidate]:
    """Return the files with their needs and figures, this machine's figures first."""
    result = []
    for path, sha256 in files:
        header = read_header(path)
        mine = [entry for entry in known if entry.file_sha256 == sha256 and _whole(entry)]
        mine.sort(key=lambda entry: entry.machine.get("id") != machine_id)
        here = bool(mine) and mine[0].machine.get("id") == machine_id
        figures = mine[0].figures if mine else None
        result.append(
            Candidate(
                file=path.name,
                file_bytes=header.file_bytes,
                memory_bytes=needed_bytes(header, context, figures if here else None),
                kv_bytes=kv_cache_bytes(header, context),
                figures=figures,
                measured_here=here,
                decode_rounds=_rounds(mine[0]) if here else (),
            )
        )
    return result


def recommend(options: Sequence[Candidate], room: Room, bounds: RecommendConfig) -> Recommendation:
    """Choose one file and say why in one sentence."""
    front = tuple(option.file for option in pareto_front(options))
    fitting = [option for option in options if option.memory_bytes <= room.ram_bytes]
    quick = [option for option in fitting if option.decode_speed >= bounds.min_tok_s]
    if not fitting:
        best, reason = None, _what_to_give_up(options, room, bounds)
    elif not quick:
        best, reason = None, _too_slow(fitting, room, bounds)
    else:
        best, reason = _choose(quick, room, bounds)
    return Recommendation(
        file=best,
        reason=reason,
        pareto_front=front,
        ram_bytes=room.ram_bytes if bounds.ram else None,
        context_tokens=bounds.context or None,
    )


def pareto_front(options: Sequence[Candidate]) -> list[Candidate]:
    """Return the measured files that no other beats in both bytes and distance, by size."""
    front: list[Candidate] = []
    measured = [option for option in options if option.figures is not None]
    for option in sorted(measured, key=lambda each: (each.file_bytes, each.mean_kld)):
        if not front or option.mean_kld < front[-1].mean_kld:
            front.append(option)
    return front


def write(run: Path, recommendation: Recommendation) -> None:
    """Keep a recommendation beside a run for the server."""
    write_json(run / FILE, recommendation)


def _rounds(entry: Measurement) -> tuple[float, ...]:
    return tuple(next(iter(sample.decode.values())) for sample in entry.samples)


def _whole(entry: Measurement) -> bool:
    """Say whether a measurement was not interrupted between words and timings."""
    return "perplexity" in entry.figures and "decode_tokens_per_second" in entry.figures


def _choose(
    options: Sequence[Candidate], room: Room, bounds: RecommendConfig
) -> tuple[str | None, str]:
    measured = [option for option in options if option.figures is not None]
    if not measured:
        largest = max(options, key=lambda option: option.file_bytes)
        return largest.file, f"the largest that fits {room}; nothing was measured"
    good = [option for option in measured if _within(option, bounds)]
    if not good:
        best = min(measured, key=lambda option: option.mean_kld)
        return best.file, (
            f"no file that fits {room} is within the quality bounds (mean KLD "
            f"{bounds.max_mean_kld_nats:g} nats); this one is closest, at {best.mean_kld:.3g}"
        )
    fastest = max(good, key=lambda option: option.decode_speed)
    equal = [option for option in good if option.as_fast_as(fastest)]
    best = min(equal, key=lambda option: option.file_bytes)
    tied = sorted((each for each in equal if each != best), key=lambda each: -each.decode_speed)
    return best.file, _why(best, tied, room, bounds)


def _within(option: Candidate, bounds: RecommendConfig) -> bool:
    return (
        option.mean_kld <= bounds.max_mean_kld_nats
        and option.perplexity_ratio <= bounds.max_perplexity_ratio
    )


def _why(best: Candidate, tied: Sequence[Candidate], room: Room, bounds: RecommendConfig) -> str:
    quality = (
        f"mean KLD {best.mean_kld:.3g} nats from the reference, perplexity x "
        f"{best.perplexity_ratio:.3f} (bounds {bounds.max_mean_kld_nats:g} and "
        f"x {bounds.max_perplexity_ratio:g})"
    )
    needs = f"needs {best.memory_bytes / 2**20:.0f} MiB of {room}"
    if not best.decode_speed:
        place = "the smallest within the quality bounds"
        return f"{place}, {quality}; {needs}; not timed on this machine"
    speed = f"{best.decode_speed:.1f} tok/s here"
    if not tied:
        return f"the fastest within the quality bounds, {speed}, {quality}; {needs}"
    others = ", ".join(f"{each.file} ({each.decode_speed:.1f} tok/s)" for each in tied)
    return (
        f"within the quality bounds the smallest of the fastest, {speed}, {quality}; {needs}; "
        f"its speed is within noise, or a tenth, of that of {others}"
    )


def _too_slow(fitting: Sequence[Candidate], room: Room, bounds: RecommendConfig) -> str:
    fastest = max(fitting, key=lambda option: option.decode_speed)
    if not fastest.decode_speed:
        return f"no file that fits {room} was timed on this machine; measure the run first"
    return (
        f"no file that fits {room} reaches {bounds.min_tok_s:g} tok/s: the fastest, {fastest.file},"
        f" decodes {fastest.decode_speed:.1f} tok/s here; a smaller quant type or a lower "
        "--min-tok-s would do"
    )


def _what_to_give_up(options: Sequence[Candidate], room: Room, bounds: RecommendConfig) -> str:
    least = min(options, key=lambda option: option.memory_bytes)
    missing = least.memory_bytes - room.ram_bytes
    ways = []
    if least.kv_bytes > missing:
        shorter = int(room.context * (1 - missing / least.kv_bytes))
        ways.append(f"a context of at most {shorter} tokens")
    if least.kv_bytes * 15 // 32 > missing:  # q8_0 takes 8.5 bits for f16's 16
        ways.append("a q8_0 KV cache")
    smallest = min(options, key=lambda option: option.file_bytes)
    ways.append(f"a quant type smaller than {smallest.file}")
    quickest = max(options, key=lambda option: option.decode_speed)
    too_slow = ""
    if bounds.min_tok_s > quickest.decode_speed > 0:
        too_slow = (
            f"; nor does any file reach {bounds.min_tok_s:g} tok/s: the fastest here, "
            f"{quickest.file}, decodes {quickest.decode_speed:.1f}"
        )
    return (
        f"nothing fits: the least that serving takes, with {least.file}, is "
        f"{least.memory_bytes / 2**20:.0f} MiB at {room.context} tokens of context, "
        f"{room.ram_bytes / 2**20:.0f} MiB are given; to give up: {' or '.join(ways)}{too_slow}"
    )
