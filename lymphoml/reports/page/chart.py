"""Declare a chart: axes and series in data units. chart_svg.py draws it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from textwrap import TextWrapper

from lymphoml.reports.format import TITLES, format_estimate
from lymphoml.reports.results import Scores

Pairs = Sequence[tuple[float, float]]
LETTER = 7  # width of a letter of 12 px in units of the view box, at most
CHANCE = 0.5


@dataclass(frozen=True)
class Series:
    """Points in data units, drawn as a line, as markers, or as both.

    `colour` is one of the page's CSS variables. `x_interval` and `y_interval` are limits drawn as
    bars, `band` limits of y drawn as a shaded area, `tooltips` one text a point.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "ink"
    line: str | None = "solid"  # solid, dash, dot; None: no line
    marker: str | None = None  # dot, ring, square, diamond; None: no markers
    width: float = 1.8
    size: float = 8
    x_interval: Pairs = ()
    y_interval: Pairs = ()
    band: Pairs = ()
    tooltips: Sequence[str] = ()
    in_legend: bool = False


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`; `ticks` maps places to labels of one line or several."""

    title: str
    low: float
    high: float
    ticks: Mapping[float, str] | Mapping[int, str]
    grid: bool = True


@dataclass(frozen=True)
class Chart:
    """`name` is unique on its page; `description` is for readers who cannot see the chart."""

    name: str
    description: str
    x: Axis
    y: Axis
    series: Sequence[Series] = ()
    width: int = 460
    height: int = 320
    left: int = 46  # margin for the ticks of y
    title: str = ""
    data_table: bool = True  # the tooltips also follow as a list

    @property
    def legend(self) -> list[Series]:
        return [series for series in self.series if series.in_legend]


def number_axis(
    title: str, low: float, high: float, most: int = 5, smallest_step: float = 0.0
) -> Axis:
    """From `low` to `high`, with at most about `most` round ticks and room at either end."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    steps = (factor * 10.0**power for power in range(-9, 9) for factor in (1, 2, 5))
    step = next(s for s in steps if s >= smallest_step and (high - low) / s <= most)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    places = [round(step * number, 10) for number in range(first, last + 1)]
    room = 0.03 * (high - low)
    ticks = {place: f"{place:g}".replace("-", "−") for place in places}
    return Axis(title, low - room, high + room, ticks)


def share_axis(title: str, low: float = 0.0) -> Axis:
    """From `low` to 1."""
    return number_axis(title, low, 1, most=6)


def count_axis(title: str, last: int) -> Axis:
    """Whole numbers from 1 to `last`."""
    return number_axis(title, 1, last, most=8, smallest_step=1)


def forest(
    name: str,
    measure: str,
    models: Mapping[str, Scores],
    left: int = 170,
    runs: int = 1,
    reference: float | None = CHANCE,
    colour: str = "accent",
) -> Chart:
    """One `measure` of each model with its interval, the first `runs` in `colour`.

    A dashed line marks the `reference`. Models without the measure keep an empty row.
    """
    scores = {model: each.get(measure) or {} for model, each in models.items()}
    known = [value for each in scores.values() for value in (each.get("value"), each.get("low"))]
    lowest = min([CHANCE, *(value for value in known if value is not None)])
    rows = {row: _wrap(model, left) for row, model in enumerate(scores)}
    lines = max((text.count("\n") + 1 for text in rows.values()), default=1)
    ends = [-0.6, len(rows) - 0.4]
    series = []
    if reference is not None:
        series.append(Series("", [reference] * 2, ends, "muted", "dash", width=1.2))
    for row, (model, each) in enumerate(scores.items()):
        if each.get("value") is None:
            continue
        limits = [(each["low"], each["high"])] if each.get("low") is not None else []
        tooltip = f"{model}: {format_estimate(each)}"
        look = (colour, None, "dot") if row < runs else ("ink", None, "square")
        series.append(
            Series(model, [each["value"]], [row], *look, size=10 if row < runs else 8,
                   x_interval=limits, tooltips=[tooltip])
        )  # fmt: skip
    return Chart(
        name,
        f"{TITLES[measure]} of {', '.join(models)}, with 95 % intervals",
        share_axis("", lowest),
        Axis("", ends[1], ends[0], rows, grid=False),
        series,
        height=56 + (12 + 14 * lines) * len(rows),
        width=460 if left < 200 else 640,
        left=left,
        title=TITLES[measure],
        data_table=False,
    )


def _wrap(name: str, width: int) -> str:
    """A name in as many lines as it takes, broken behind commas and spaces where possible."""
    return "\n".join(_Wrapper(int((width - 14) / LETTER), break_on_hyphens=False).wrap(name))


class _Wrapper(TextWrapper):
    wordsep_simple_re = re.compile(r"(\s+|(?<=,))")
