from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from toolkit.reporting import LayerChannels, plots
from toolkit.reporting.labels import distinct
from toolkit.reporting.plots import Point
from toolkit.reporting.svg import Chart, draw


def _check(chart: Chart | None) -> str:
    assert chart is not None
    ET.fromstring(chart.svg)
    assert not re.search(r"#0[0-9a-d]0[0-9a-f]0[0-9a-f]\b", chart.svg), "a marker colour was left"
    assert "var(--" in chart.svg
    assert len(chart.svg) < 60_000
    return chart.svg


def test_curve_says_where_it_begins_and_ends() -> None:
    chart = plots.curves_chart("c", "loss", {"loss": [(0, 6.0), (10, 2.0), (20, float("nan"))]})
    _check(chart)
    assert chart is not None
    assert chart.alt == "Line chart. loss from 6.00 at step 0 to 2.00 at step 10."


@pytest.mark.parametrize("curve", [[], [(0, float("nan"))], [(0, float("inf"))]])
def test_curve_without_a_number_is_no_chart(curve: list[tuple[float, float]]) -> None:
    assert plots.curves_chart("c", "loss", {"loss": curve}) is None


def test_long_curves_are_thinned_with_both_ends_kept() -> None:
    points = plots._points([(step, float(step)) for step in range(100_000)])
    assert len(points) == plots.MAX_POINTS
    assert points[0, 0] == 0
    assert points[-1, 0] == 99_999


def test_wide_range_gets_a_logarithmic_axis() -> None:
    wide = plots.curves_chart("c", "loss", {"loss": [(step, 10.0**-step) for step in range(6)]})
    text = _check(wide)
    assert ">0.001<" in text
    assert "mathdefault" not in text


def test_histogram_survives_constant_and_single_times() -> None:
    _check(plots.latency_chart("l", "", {"constant": np.full(10, 0.5), "one": np.array([0.5])}))
    _check(plots.latency_chart("l", "", {"zero": np.zeros(4)}))
    assert plots.latency_chart("l", "", {"none": np.array([]), "nan": np.array([np.nan])}) is None


def test_histogram_names_its_percentiles() -> None:
    chart = plots.latency_chart("l", "", {"slim": np.arange(1.0, 102.0)})
    assert chart is not None
    assert "slim: median 51.0" in chart.alt
    assert "99th percentile 100" in chart.alt


def test_bars_say_when_some_are_left_out() -> None:
    chart = plots.bars_chart("b", "Times.", [(f"layer{index}", index + 1.0) for index in range(90)], "ms")
    text = _check(chart)
    assert chart is not None
    assert chart.caption == "Times. The 40 largest of 90."
    assert text.index(">layer50<") < text.index(">layer89<")
    assert ">layer49<" not in text


def test_long_names_lose_what_they_share() -> None:
    names = [f"/backbone/layer{stage}/{stage}.{block}/conv/Conv_output_0" for stage in (1, 2) for block in (0, 1)]
    assert distinct(names) == ["layer1/1.0", "layer1/1.1", "layer2/2.0", "layer2/2.1"]
    assert distinct(names[:1]) == names[:1]
    assert distinct(["a" * 40, "a" * 40]) == ["a" * 40] * 2
    assert distinct(["short.a", "short.b"]) == ["short.a", "short.b"]


def test_channels_name_the_sums() -> None:
    chart = plots.channels_chart("c", "", [LayerChannels("a", 64, 10), LayerChannels("b", 64, 0)])
    _check(chart)
    assert chart is not None
    assert "128 before and 10 after" in chart.alt


def test_front_keeps_only_what_nothing_beats() -> None:
    points = [Point("a", 0.5, 0.9), Point("b", 0.2, 0.8), Point("worse", 0.6, 0.85), Point("c", 0.2, 0.7)]
    assert [point.label for point in plots._front(points)] == ["b", "a"]
    _check(plots.tradeoff_chart("t", "", points, "x", "y"))
    assert plots.tradeoff_chart("t", "", points[:1], "x", "y") is None


def test_text_is_neither_formula_nor_markup() -> None:
    chart = plots.bars_chart("b", "", [("$x_1$ <b>&", 1.0)], "ms")
    assert "$x_1$ &lt;b&gt;&amp;" in _check(chart)


def test_two_charts_do_not_share_identifiers() -> None:
    first, second = (draw(name, "", "", 1.0, lambda figure: figure.subplots().plot([1, 2])) for name in ("a", "b"))
    names = [set(re.findall(r' id="([^"]+)"', chart.svg)) for chart in (first, second)]
    assert names[0]
    assert not names[0] & names[1]
