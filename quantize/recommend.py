"""Choose the file to serve from figures; knows no llama.cpp call, only headers and numbers.

Memory is file + f16 KV cache at the context + working buffers. Of the files that fit, those within
the quality bounds compete on decode speed, and near the top the smallest wins, since timings are
not exact; when none is within the bounds, the closest one is chosen.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from quantize.config import RecommendConfig
from quantize.errors import ConfigError
from quantize.gguf_header import read_header
from quantize.inspect_gguf import kv_cache_bytes
from quantize.measure import Measurement
from quantize.run import SCHEMA_VERSION, write_json

FILE = "recommendation.json"
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_PROCESS_BYTES = 160 << 20
"""Interpreter, server and library code."""
_NEARLY_AS_FAST = 0.9
"""Decode speeds within a tenth of each other count as equal."""
_OUTPUT_ROWS = 128
"""Rows of float32 logits and activations held at once."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one file and what is known of it."""

    file: str
    file_bytes: int
    memory_bytes: int
    n_ctx_train: int | None
    figures: dict[str, Any] | None
    """None when it was measured on no machine."""
    measured_here: bool

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
        known = (self.figures or {}).get("decode_tokens_per_second")
        return float(known) if known and self.measured_here else 0.0


class Recommendation(msgspec.Struct, frozen=True, kw_only=True):
    """Name the chosen file, or none and what to give up."""

    schema_version: int = SCHEMA_VERSION
    file: str | None
    reason: str


def parse_bytes(text: str) -> int:
    """Return bytes from `4G`, `700M` or a plain number; units are powers of 1024.

    Raises:
        ConfigError: for anything else.
    """
    found = re.fullmatch(r"(?i)\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text)
    if found is None:
        raise ConfigError(f"{text!r} is not an amount of memory; examples: 4G, 700M")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def candidates(
    files: Sequence[tuple[Path, str]], known: Sequence[Measurement], machine_id: str, context: int
) -> list[Candidate]:
    """Return the files with their needs and figures, this machine's figures first."""
    result = []
    for path, sha256 in files:
        header = read_header(path)
        mine = [entry for entry in known if entry.file_sha256 == sha256]
        mine.sort(key=lambda entry: entry.machine.get("id") != machine_id)
        n_vocab = header.metadata.get("tokenizer.ggml.tokens", 0)
        working = _PROCESS_BYTES + _OUTPUT_ROWS * 4 * (n_vocab if isinstance(n_vocab, int) else 0)
        result.append(
            Candidate(
                file=path.name,
                file_bytes=header.file_bytes,
                memory_bytes=header.file_bytes + kv_cache_bytes(header, context) + working,
                n_ctx_train=header.architecture_value("context_length"),
                figures=mine[0].figures if mine else None,
                measured_here=bool(mine) and mine[0].machine.get("id") == machine_id,
            )
        )
    return result


def recommend(
    options: Sequence[Candidate], *, ram_bytes: int, context: int, bounds: RecommendConfig
) -> Recommendation:
    """Choose one file and say why in one sentence."""
    fitting = [option for option in options if option.memory_bytes <= ram_bytes]
    if not fitting:
        return Recommendation(file=None, reason=_what_to_give_up(options, ram_bytes, context))
    room = f"{ram_bytes / 2**30:.3g} GiB at {context} tokens of context"
    measured = [option for option in fitting if option.figures is not None]
    if not measured:
        best = max(fitting, key=lambda option: option.file_bytes)
        return Recommendation(
            file=best.file, reason=f"the largest that fits {room}; nothing was measured"
        )
    good = [option for option in measured if _within(option, bounds)]
    if not good:
        best = min(measured, key=lambda option: option.mean_kld)
        return Recommendation(
            file=best.file,
            reason=f"no file that fits {room} is within the quality bounds (mean KLD "
            f"{bounds.max_mean_kld_nats:g} nats); this one is closest, at {best.mean_kld:.3g}",
        )
    top = max(option.decode_speed for option in good)
    quick = [option for option in good if option.decode_speed >= _NEARLY_AS_FAST * top]
    best = min(quick, key=lambda option: option.file_bytes)
    return Recommendation(file=best.file, reason=_why(best, room, bounds))


def write(run: Path, recommendation: Recommendation) -> None:
    """Keep a recommendation beside a run for the server."""
    write_json(run / FILE, recommendation)


def _within(option: Candidate, bounds: RecommendConfig) -> bool:
    return (
        option.mean_kld <= bounds.max_mean_kld_nats
        and option.perplexity_ratio <= bounds.max_perplexity_ratio
    )


def _why(best: Candidate, room: str, bounds: RecommendConfig) -> str:
    quality = (
        f"mean KLD {best.mean_kld:.3g} nats from the reference, perplexity x "
        f"{best.perplexity_ratio:.3f} (bounds {bounds.max_mean_kld_nats:g} and "
        f"x {bounds.max_perplexity_ratio:g})"
    )
    needs = f"needs {best.memory_bytes / 2**20:.0f} MiB of {room}"
    if best.decode_speed:
        return (
            f"within the quality bounds the smallest of the fastest, {best.decode_speed:.1f} tok/s "
            f"here, "
            f"{quality}; {needs}"
        )
    return f"the smallest within the quality bounds, {quality}; {needs}; not timed on this machine"


def _what_to_give_up(options: Sequence[Candidate], ram_bytes: int, context: int) -> str:
    smallest = min(options, key=lambda option: option.memory_bytes)
    per_token = (smallest.memory_bytes - smallest.file_bytes) / max(context, 1)
    spare = ram_bytes - smallest.file_bytes - _PROCESS_BYTES
    shorter = (
        f"a context of about {int(spare / per_token)} tokens or " if spare > per_token * 256 else ""
    )
    return (
        f"nothing fits: the smallest file, {smallest.file}, needs "
        f"{smallest.memory_bytes / 2**20:.0f} MiB at {context} tokens of context, "
        f"{ram_bytes / 2**20:.0f} MiB are given; {shorter}a smaller quant type would"
    )
