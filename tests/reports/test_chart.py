import json
import re

import plotly.graph_objects as go
import pytest

from lymphoml.reports.page.chart import (
    LETTER,
    Axis,
    Chart,
    Series,
    count_axis,
    named_axis,
    rows_height,
    share_axis,
    value_axis,
)
from lymphoml.reports.page.chart_plotly import figure
from lymphoml.reports.page.chart_svg import margins, svg


def chart(*series, **changes):
    axis = Axis("x & y", 0, 10, {0: "0", 10: "ten"})
    return Chart(**{"name": "c", "description": 'a "quoted" <chart>', "x": axis, "y": axis,
                    "series": series, "width": 200, "height": 150, **changes})  # fmt: skip


def test_svg_puts_the_ends_of_the_axes_at_the_edges_of_the_frame():
    drawn = svg(chart(Series("s", [0, 10], [0, 10])))
    left, right, top, bottom = margins(chart())
    x0, y0, x1, y1 = map(
        float, re.search(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', drawn).groups()
    )
    assert (x0, x1) == (left, 200 - right)
    assert (y0, y1) == (150 - bottom, top)


def test_svg_draws_a_mark_and_both_limits_of_each_point():
    drawn = svg(
        chart(
            Series("s", [5, 5], [2, 8], line=None, mark="dot", x_interval=[(0, 10), (5, 6)]),
            Series("t", [1], [1], line=None, mark="square", y_interval=[(0, 2)]),
        )
    )
    left, right, _, _ = margins(chart())
    assert drawn.count("<circle") == 2
    assert drawn.count("<rect") == 1
    assert f"M{left}.0 " in drawn
    assert f"H{200 - right}.0" in drawn
    assert len(re.findall(r"M[\d.]+ [\d.]+V[\d.]+", drawn)) == 1 + 2  # and a rule at each tick


def test_svg_says_in_words_what_it_shows_and_escapes_them():
    drawn = svg(chart(Series("s", [0], [0])))
    assert 'aria-label="a &quot;quoted&quot; &lt;chart&gt;"' in drawn
    assert "x &amp; y" in drawn
    assert "#" not in drawn  # the page's colours alone


def test_plotly_accepts_the_chart_and_finds_the_same_points():
    each = Series("s", [1, 2], [3, 4], "tumoral", "dash", "ring", x_interval=[(0, 3), (1, 5)],
                  told=["<b>one</b>", "two"])  # fmt: skip
    spec = figure(chart(each, Series("t", [5], [6], line=None, mark="square")))
    # plotly checks every key and value, but knows no CSS variable
    coloured = json.loads(re.sub(r"var\(--[a-z]+\)", "red", json.dumps(spec)))
    drawn = go.Figure(coloured)
    first, second = drawn.data
    assert (list(first.x), list(first.y)) == ([1, 2], [3, 4])
    assert (first.mode, second.mode) == ("lines+markers", "markers")
    assert first.text == ("&lt;b&gt;one&lt;/b&gt;", "two")
    assert second.hoverinfo == "skip"
    assert tuple(drawn.layout.xaxis.range) == (0, 10)


def test_plotly_measures_limits_from_the_point():
    [trace] = figure(chart(Series("s", [1, 2], [3, 4], y_interval=[(2.5, 3.25), (4, 6)])))["data"]
    assert trace["error_y"]["arrayminus"] == [0.5, 0]
    assert trace["error_y"]["array"] == [0.25, 2]


@pytest.mark.parametrize(
    ("axis", "places"),
    [
        (share_axis(""), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (share_axis("", 0.7, 0.1), [0.7, 0.8, 0.9, 1]),
        (count_axis("", 20), [5, 10, 15, 20]),
        (count_axis("", 1), [1]),
        (count_axis("", 163), [50, 100, 150]),
        (value_axis("", 0.23, 0.71), [0.4, 0.6]),
        (value_axis("", 0.5, 0.5), [0, 0.5, 1]),
        (value_axis("", -0.1, 0.3, most=5), [-0.1, 0, 0.1, 0.2, 0.3]),
    ],
)
def test_ticks_are_round_and_lie_within(axis, places):
    assert list(axis.ticks) == pytest.approx(places)
    assert all(axis.low <= place <= axis.high for place in axis.ticks)


@pytest.mark.parametrize("left", [150, 230])
def test_a_long_name_is_broken_into_lines_that_have_room_and_are_whole(left):
    names = [
        "short",
        "data.folds=2,data=synthetic,model.encoder=morphology,weight_averaging=ema",
        "label smoothing 0.1, instance dropout 0.2, weight decay 0.01, mean and spread",
        "x" * 90,
    ]
    axis = named_axis(names, left)
    for name, text in zip(names, axis.ticks.values(), strict=True):
        assert re.sub(r"\s", "", text) == re.sub(r"\s", "", name)
        assert all(len(line) * LETTER <= left - 14 for line in text.split("\n"))
    assert axis.ticks[0] == "short"
    assert axis.ticks[1].startswith("data.folds=2,")
    assert axis.ticks[1].split("\n")[0][-1] == ","
    most = max(text.count("\n") + 1 for text in axis.ticks.values())
    assert rows_height(axis) >= len(names) * 14 * most
    drawn = svg(chart(y=axis, left=left))
    flat = figure(chart(y=axis, left=left))["layout"]["yaxis"]["ticktext"]
    for text, ticked in zip(axis.ticks.values(), flat, strict=True):
        assert ticked == text.replace("\n", "<br>")
        for line in text.split("\n"):
            assert f">{line}</text>" in drawn
