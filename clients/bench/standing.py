"""From the samples of a comparison to a standing: medians, spread, ratios. Numbers only."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clients.bench.rounds import Sample


Better = Literal["higher", "lower", "neither"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is compared, and what is good about it."""

    scenario: str
    name: str
    title: str
    unit: str
    better: Better


def _figure(scenario: str, name: str, title: str, unit: str, better: Better = "lower") -> Figure:
    return Figure(scenario=scenario, name=name, title=title, unit=unit, better=better)


FIGURES = (
    _figure("decode", "tokens_per_second", "decode, one stream", "tok/s", "higher"),
    _figure("decode-many", "tokens_per_second", "decode, many streams, total", "tok/s", "higher"),
    _figure("decode-many", "first_token_p50_seconds", "many streams, first token p50", "s"),
    _figure("decode-many", "first_token_p95_seconds", "many streams, first token p95", "s"),
    _figure("prefill", "prompt_tokens", "the long prompt", "tokens", "neither"),
    _figure("prefill", "tokens_per_second", "prefill of a long prompt", "tok/s", "higher"),
    _figure("mixed", "first_token_p50_seconds", "small request beside it, first token p50", "s"),
    _figure("mixed", "first_token_p95_seconds", "small request beside it, first token p95", "s"),
    _figure("mixed", "long_first_token_seconds", "the long prompt meanwhile, first token", "s"),
    _figure("mixed-edits", "first_token_p50_seconds", "typing beside it, first token p50", "s"),
    _figure("mixed-edits", "first_token_p95_seconds", "typing beside it, first token p95", "s"),
    _figure("mixed-edits", "long_first_token_seconds", "the long prompt meanwhile", "s"),
    _figure("chat-replay", "prompt_tokens", "chat replay, prompt tokens sent", "tokens", "neither"),
    _figure("chat-replay", "read_tokens", "chat replay, prompt tokens read", "tokens"),
    _figure("chat-replay", "first_token_p50_seconds", "chat replay, first token p50", "s"),
    _figure("keystrokes", "read_tokens", "keystrokes, tokens read per request", "tokens"),
    _figure("keystrokes", "answer_p50_seconds", "keystrokes, answer p50", "s"),
    _figure("keystrokes", "answer_p95_seconds", "keystrokes, answer p95", "s"),
    _figure("restart", "cold_first_token_seconds", "a long prompt, first token cold", "s"),
    _figure("restart", "first_token_seconds", "the same after a restart", "s"),
    _figure("restart", "to_cold", "after a restart, to cold", "ratio"),
    _figure("restart", "read_tokens", "after a restart, prompt tokens read", "tokens"),
    _figure("edit", "tokens_per_second", "edit with a prediction", "tok/s", "higher"),
    _figure("edit", "plain_tokens_per_second", "edit without drafts", "tok/s", "higher"),
    _figure("edit", "speedup", "edit, drafts to none", "ratio", "higher"),
    _figure("unforeseen", "tokens_per_second", "wrong prediction", "tok/s", "higher"),
    _figure("unforeseen", "speedup", "wrong prediction, drafts to none", "ratio", "higher"),
    _figure("constrained", "tokens_per_second", "records of a schema", "tok/s", "higher"),
    _figure("constrained", "strings_tokens_per_second", "strings of one", "tok/s", "higher"),
    _figure("constrained", "plain_tokens_per_second", "the same without", "tok/s", "higher"),
    _figure("constrained", "to_plain", "records, with a schema to without", "ratio", "higher"),
    _figure("constrained", "strings_to_plain", "strings, the same", "ratio", "higher"),
    _figure("crowded", "tokens_per_second", "beside busy cores", "tok/s", "higher"),
    _figure("crowded", "last_tokens_per_second", "the same, last answer", "tok/s", "higher"),
    _figure("crowded", "first_token_seconds", "the same, latest first token", "s"),
)


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One peer's figure over the rounds that have it.

    `ratio` is the median of the rounds' ratios to the first peer; None for that peer itself.
    """

    median: float
    low: float
    high: float
    num_rounds: int
    ratio: float | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of all peers that have it, by name."""

    figure: Figure
    cells: dict[str, Cell]


def standing(samples: Sequence[Sample], peers: Sequence[str]) -> list[Row]:
    """Return a row for each figure that was measured; the first peer is what ratios refer to."""
    rows = []
    for figure in FIGURES:
        by_peer = {peer: _by_round(samples, peer, figure) for peer in peers}
        base = by_peer[peers[0]]
        cells = {
            peer: _cell(values, None if peer == peers[0] else base)
            for peer, values in by_peer.items()
            if values
        }
        if cells:
            rows.append(Row(figure=figure, cells=cells))
    return rows


def _by_round(samples: Sequence[Sample], peer: str, figure: Figure) -> dict[int, float]:
    found = {}
    for sample in samples:
        value = sample.figures.get(figure.name)
        if value is not None and (sample.peer, sample.scenario) == (peer, figure.scenario):
            found[sample.round] = value
    return found


def _cell(values: dict[int, float], base: dict[int, float] | None) -> Cell:
    ratios = [values[at] / base[at] for at in values if base and base.get(at)]
    return Cell(
        median=statistics.median(values.values()),
        low=min(values.values()),
        high=max(values.values()),
        num_rounds=len(values),
        ratio=statistics.median(ratios) if ratios else None,
    )
