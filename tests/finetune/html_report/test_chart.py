"""Charts: round ticks that cover the data, points where they belong."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.html_report.chart import Line, label, line_chart, round_ticks, smoothed

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False).map(lambda number: round(number, 6))


@given(NUMBERS, NUMBERS)
def test_ticks_rise_and_cover_the_values(one, other):
    low, high = sorted((one, other))
    ticks = round_ticks(low, high)
    assert list(ticks) == sorted(set(ticks))
    assert 2 <= len(ticks) <= 9
    slack = (ticks[1] - ticks[0]) * 1e-6
    assert ticks[0] - slack <= low <= high <= ticks[-1] + slack


def test_ticks_are_round():
    assert round_ticks(0.13, 2.4) == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)


def test_the_lowest_value_lies_on_the_lower_axis_and_the_highest_on_top():
    svg = line_chart([Line(name="loss", points=[(0, 0.0), (10, 1.0)])], x_name="x", y_name="y")
    line = ET.fromstring(svg).find("polyline")
    (x0, y0), (x1, y1) = (place.split(",") for place in line.get("points").split())
    assert (float(x0), float(y0)) == (58, 220)
    assert (float(x1), float(y1)) == (626, 12)


def test_one_point_alone_is_seen():
    svg = line_chart([Line(name="loss", points=[(3, 2.5)])], x_name="x", y_name="y")
    assert ET.fromstring(svg).find("circle/title").text == "3: 2.5"


def test_names_are_text_whatever_they_hold():
    svg = line_chart([Line(name="n", points=[(0, 1), (1, 2)])], x_name="<b>&", y_name='"')
    root = ET.fromstring(svg)
    assert root.findall("text")[-1].text == "<b>&"
    assert root.get("aria-label") == '"'


def test_no_points_draw_nothing():
    assert line_chart([Line(name="n", points=[])], x_name="x", y_name="y") == ""


def test_smoothing_is_not_pulled_towards_the_first_value():
    points = [(0, 4.0), (1, 2.0)]
    assert smoothed(points, keep=0.5) == [(0, 4.0), (1, pytest.approx(8 / 3))]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.5, "0.5"), (2e-5, "2e-5"), (25_000, "25k"), (400, "400")]
)
def test_ticks_are_written_short(value, text):
    assert label(value) == text
