"""What a packed row costs on this GPU: two training steps, measured before the run.

    peak bytes = fixed + per_token * row_tokens        seconds = row_tokens / tokens_per_second

Knows one model on one card. Does not know how long a run will be.
"""

import time
from typing import Any

import msgspec

from finetune.libraries import half_precision

SHORT, LONG = 1_024, 4_096
USABLE = 0.85  # of the card's memory; the rest is for fragments and for rows that cost more
SEGMENT = 128  # tokens of one pretended example


class RowCosts(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of training on one row, and how much of it there is; all in bytes."""

    fixed_bytes: float
    bytes_per_token: float
    usable_bytes: float
    tokens_per_second: float

    @property
    def max_row_tokens(self) -> int:
        """Return the longest row that fits, 0 when none does."""
        return max(0, int((self.usable_bytes - self.fixed_bytes) / self.bytes_per_token))

    def bytes_of(self, row_tokens: int) -> float:
        """Return the expected peak of a row."""
        return self.fixed_bytes + self.bytes_per_token * row_tokens


def probe(model: Any) -> RowCosts | None:
    """Train on a short and a longer row of random tokens, without an update.

    Returns None when not even the longer one fits.
    """
    import torch

    try:
        _timed_step(model, SHORT)  # compiles what is compiled once
        short, _ = _timed_step(model, SHORT)
        _timed_step(model, LONG)
        long, seconds = _timed_step(model, LONG)
    except torch.OutOfMemoryError:
        return None
    finally:
        model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return fit_costs(short, long, seconds, _usable_bytes())


def fit_costs(short: int, long: int, seconds: float, usable_bytes: float) -> RowCosts:
    """Draw the line through the peaks in bytes of a SHORT and a LONG row."""
    slope = max(1.0, (long - short) / (LONG - SHORT))
    return RowCosts(
        fixed_bytes=max(0.0, short - slope * SHORT),
        bytes_per_token=slope,
        usable_bytes=usable_bytes,
        tokens_per_second=LONG / seconds,
    )


def _usable_bytes() -> float:
    """Return what this process may hold: what is free now and what it holds already."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return USABLE * float(free + torch.cuda.memory_allocated())


def _timed_step(model: Any, num_tokens: int) -> tuple[int, float]:
    """Return peak bytes and seconds of forward and backward over one packed row."""
    import torch

    device = torch.device("cuda", torch.cuda.current_device())
    ids = torch.randint(0, model.config.vocab_size, (1, num_tokens), device=device)
    places = torch.arange(num_tokens, device=device)[None] % SEGMENT
    lengths = torch.full((num_tokens // SEGMENT,), SEGMENT, dtype=torch.int32, device=device)
    narrow = half_precision()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    began = time.perf_counter()
    with torch.autocast("cuda", dtype=narrow):
        loss = model(
            input_ids=ids,
            labels=ids,
            position_ids=places,
            packed_seq_lengths=lengths,
            num_items_in_batch=num_tokens,
            use_cache=False,
        ).loss
    loss.backward()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    model.zero_grad(set_to_none=True)
    return int(torch.cuda.max_memory_allocated()), seconds
