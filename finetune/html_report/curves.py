"""What a run logged as charts: loss, learning rate, speed, gradients.

Knows the events of log.jsonl. Knows no page.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from finetune.html_report.chart import Line, Point, line_chart, smoothed
from finetune.run import Run


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One chart with its title and the names of its lines, in order of colour."""

    title: str
    lines: tuple[str, ...]
    svg: str


def charts_of(run: Run, metrics: dict[str, Any]) -> list[Chart]:
    """Return the charts that a run's log gives rise to."""
    steps = {event["step"]: event for event in run.events("step")}  # a resumed step: the later one
    ordered = [steps[step] for step in sorted(steps)]
    loss = _points(ordered, "loss_nats")
    lines = [Line(name="training, each step", points=loss, faint=True)]
    lines.append(Line(name="training, smoothed", points=smoothed(loss)))
    lines.append(Line(name="held out", points=_heldout(run, metrics), marks=True))
    drawn = [
        _chart("Loss, nats", lines),
        _chart("Speed, tokens per second", [_line(ordered, "tokens_per_second")], from_zero=True),
        _chart("Reward margin, chosen over rejected", [_line(ordered, "reward_margin")]),
        _chart("Learning rate", [_line(ordered, "learning_rate")], from_zero=True),
        _chart("Gradient norm", [_line(ordered, "grad_norm")], from_zero=True),
    ]
    return [chart for chart in drawn if chart.svg]


def _points(events: Sequence[dict[str, Any]], name: str) -> list[Point]:
    return [(event["step"], event[name]) for event in events if event.get(name) is not None]


def _line(events: Sequence[dict[str, Any]], name: str) -> Line:
    return Line(name=name.replace("_", " "), points=_points(events, name))


def _heldout(run: Run, metrics: dict[str, Any]) -> list[Point]:
    """Return the held-out loss by step: before, at checkpoints where it was measured, after."""
    goal = "preference" if "heldout_preference_loss_after_nats" in metrics else "response"
    measured: dict[float, float] = {0: metrics[f"heldout_{goal}_loss_before_nats"]}
    for event in run.events("heldout_loss"):
        if event.get("step") is not None:
            measured[event["step"]] = event["loss_nats"]
    measured.setdefault(metrics["num_steps"], metrics[f"heldout_{goal}_loss_after_nats"])
    return sorted(measured.items())


def _chart(title: str, lines: Sequence[Line], *, from_zero: bool = False) -> Chart:
    svg = line_chart(lines, x_name="step", y_name=title, from_zero=from_zero)
    return Chart(title=title, lines=tuple(line.name for line in lines), svg=svg)
