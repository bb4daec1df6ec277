import re

import pytest

from lymphoml.reports.page.chart import (
    LETTER,
    Axis,
    Chart,
    Series,
    count_axis,
    forest,
    legend_key,
    margins,
    number_axis,
    share_axis,
    svg,
)

DIAGONAL = Series("s", [0, 10], [0, 10])


def chart(*series, **changes):
    axis = Axis("x & y", 0, 10, {0: "0", 10: "ten"})
    return Chart(**{"description": 'a "quoted" <chart>', "x": axis, "y": axis,
                    "series": series, "width": 200, "height": 150, **changes})  # fmt: skip


def test_each_point_has_a_marker_both_limits_and_a_tooltip():
    drawn = svg(
        chart(
            Series("s", [5, 5], [2, 8], line=None, marker="dot", x_interval=[(0, 10), (5, 6)],
                   tooltips=["<b>one</b>", "two"]),
            Series("t", [1], [1], line=None, marker="square", y_interval=[(0, 2)]),
            Series("u", [0, 10], [5, 5], band=[(4, 6), (4, 6)]),
        )
    )  # fmt: skip
    left, right, top, bottom = margins(chart())
    assert drawn.count("<rect") == 1
    assert re.findall(r"<title>(.*?)</title>", drawn) == ["&lt;b&gt;one&lt;/b&gt;", "two"]
    assert drawn.count("<circle") == 2 + 2  # markers, and what answers the pointer
    assert f"M{left}.0 " in drawn
    assert f"H{200 - right}.0" in drawn
    assert len(re.findall(r"M[\d.]+ [\d.]+V[\d.]+", drawn)) == 1 + 2  # and a line at each tick
    assert re.search(r'class="band" d="M[^"]*z"', drawn)
    line = re.search(r'd="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', svg(chart(DIAGONAL))).groups()
    assert list(map(float, line)) == [left, 150 - bottom, 200 - right, top]  # the frame's edges


def test_the_chart_has_a_description_and_only_the_pages_colours():
    series = Series("s", [0], [0], "tumoral", "dash", "ring")
    drawn = svg(chart(series)) + legend_key(series)
    assert 'aria-label="a &quot;quoted&quot; &lt;chart&gt;"' in drawn
    assert "x &amp; y" in drawn
    assert "#" not in drawn
    assert drawn.count("var(--tumoral)") >= 4


@pytest.mark.parametrize(("axis", "places"), [
    (share_axis("", 0.43), [0.5, 0.6, 0.7, 0.8, 0.9, 1]),
    (count_axis("", 20), [5, 10, 15, 20]), (count_axis("", 1), [1]),
    (number_axis("", 0.5, 0.5), [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (number_axis("", -0.1, 0.3), [-0.1, 0, 0.1, 0.2, 0.3]),
])  # fmt: skip
def test_ticks_are_round_and_within_the_axis(axis, places):
    assert list(axis.ticks) == pytest.approx(places)
    assert all(axis.low <= place <= axis.high for place in axis.ticks)


@pytest.mark.parametrize("left", [150, 230])
def test_a_forest_has_a_row_per_model_and_long_names_in_lines(left):
    names = ["short", "data.folds=2,data=synthetic,model.encoder=morphology,weight_averaging=ema",
             "label smoothing 0.1, instance dropout 0.2, weight decay 0.01", "x" * 90]  # fmt: skip
    scores = [{"auroc": {"value": 0.3, "low": 0.2, "high": 0.4}}, {}, {"auroc": {"value": None}},
              {"auroc": {"value": 0.9, "low": None, "high": None}}]  # fmt: skip
    drawn = forest("auroc", dict(zip(names, scores, strict=True)), left)
    _, first, last = drawn.series
    assert (first.x, first.y, first.x_interval) == ([0.3], [0], [(0.2, 0.4)])
    assert (last.x, last.y, last.x_interval) == ([0.9], [3], [])
    assert first.tooltips == ["short: 0.300 [0.200, 0.400]"]
    assert drawn.x.low < 0.2
    for name, text in zip(names, drawn.y.ticks.values(), strict=True):
        assert re.sub(r"\s", "", text) == re.sub(r"\s", "", name)
        assert all(len(line) * LETTER <= left - 14 for line in text.split("\n"))
    lines = max(text.count("\n") + 1 for text in drawn.y.ticks.values())
    assert drawn.height >= len(names) * 14 * lines
