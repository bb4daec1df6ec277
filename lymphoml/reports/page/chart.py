"""A chart, declared once and drawn twice: as SVG for paper, as plotly where a pointer can hover."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, floor
from textwrap import TextWrapper

from lymphoml.reports.page.scores import Scores
from lymphoml.reports.page.wording import TITLES, interval, score

Pairs = Sequence[tuple[float, float]]
LETTER = 7  # units of the view box that a letter of 12 px takes, on the wide side


@dataclass(frozen=True)
class Series:
    """Points in data units, drawn as a line, as marks, or as both.

    `colour` is one of the page's CSS variables; `x_interval` and `y_interval` are each point's
    limits. `told` says each point in words, for hovering.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "ink"
    line: str | None = "solid"  # solid, dash, dot; None draws no line
    mark: str | None = None  # dot, ring, square, diamond; None draws no marks
    width: float = 1.8
    size: float = 8
    x_interval: Pairs = ()
    y_interval: Pairs = ()
    told: Sequence[str] = ()
    named: bool = False  # stands in the legend


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`; `ticks` maps places to what is written there, a line or several."""

    title: str
    low: float
    high: float
    ticks: Mapping[float, str]
    rules: bool = True  # a faint line at each tick


@dataclass(frozen=True)
class Chart:
    """`name` is unique on its page; `description` is for readers who can't see the chart."""

    name: str
    description: str
    x: Axis
    y: Axis
    series: Sequence[Series] = field(default_factory=tuple)
    width: int = 460
    height: int = 320
    left: int = 46  # margin for the ticks of y
    title: str = ""  # stands above, within the chart
    numbers: bool = True  # the points also stand in a table below

    @property
    def named(self) -> list[Series]:
        return [series for series in self.series if series.named]


def share_axis(title: str, low: float = 0.0, step: float = 0.2) -> Axis:
    """From `low` to 1, with room for a mark at either end."""
    count = round((1 - low) / step)
    places = [round(low + step * number, 10) for number in range(count + 1)]
    room = 0.02 * (1 - low)
    return Axis(title, low - room, 1 + room, {place: f"{place:.2g}" for place in places})


def named_axis(names: Sequence[str], left: int) -> Axis:
    """A row for each name, the first on top; in lines that a margin of `left` has room for."""
    ticks: dict[float, str] = {row: broken(name, left) for row, name in enumerate(names)}
    return Axis("", len(names) - 0.4, -0.6, ticks, rules=False)


def rows_height(names: Axis) -> int:
    """Of a chart with these rows, and its title and ticks."""
    lines = max((text.count("\n") + 1 for text in names.ticks.values()), default=1)
    return 56 + (12 + 14 * lines) * len(names.ticks)


def broken(name: str, width: int) -> str:
    """A name in as many lines as it takes, broken behind commas and spaces where it has some."""
    return "\n".join(_Wrapper(int((width - 14) / LETTER), break_on_hyphens=False).wrap(name))


class _Wrapper(TextWrapper):
    wordsep_simple_re = re.compile(r"(\s+|(?<=,))")


def count_axis(title: str, last: int, most: int = 6) -> Axis:
    """Whole numbers from 1 to `last`, with at most about `most` ticks."""
    step = next(
        step for power in range(9) for step in (10**power, 2 * 10**power, 5 * 10**power)
        if last / step <= most
    )  # fmt: skip
    places = list(range(step, last + 1, step)) or [last]
    room = max(0.5, 0.02 * last)
    return Axis(title, 1 - room, last + room, {place: str(place) for place in places})


def value_axis(title: str, low: float, high: float, most: int = 4) -> Axis:
    """Any values, with round ticks."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    step = next(
        factor * 10.0**power for power in range(-9, 9) for factor in (1, 2, 5)
        if (high - low) / (factor * 10.0**power) <= most
    )  # fmt: skip
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    places = [round(step * number, 10) for number in range(first, last + 1)]
    room = 0.04 * (high - low)
    return Axis(
        title, low - room, high + room, {place: f"{place:g}".replace("-", "−") for place in places}
    )


# Scores with their intervals, one below the other.


def forest(
    name: str, measure: str, models: Mapping[str, Scores], left: int = 170, runs: int = 1
) -> Chart:
    """One `measure` of each model, the first `runs` stressed; chance, 0.5, is a dashed line.

    Models without the measure keep an empty row.
    """
    chance = 0.5
    told = {model: scores.get(measure) or {} for model, scores in models.items()}
    lows = [limit for each in told.values() if (limit := each.get("low")) is not None]
    values = [value for each in told.values() if (value := each.get("value")) is not None]
    lowest = int(10 * min([chance, *lows, *values])) / 10
    names = named_axis(list(models), left)
    line = Series("chance", [chance, chance], [-0.6, len(models) - 0.4], "muted", "dash", width=1.2)
    rows = [
        _row(model, row, each, row < runs)
        for row, (model, each) in enumerate(told.items())
        if each.get("value") is not None
    ]
    return Chart(
        name=name,
        description=f"{TITLES[measure]} of {', '.join(models)}, with 95 % intervals; "
        f"the dashed line is chance, 0.5",
        x=share_axis("", lowest, 0.1),
        y=names,
        series=[line, *rows],
        height=rows_height(names),
        width=460 if left < 200 else 640,
        left=left,
        title=TITLES[measure],
        numbers=False,
    )


def _row(model: str, row: int, told: Mapping[str, float | None], stressed: bool) -> Series:
    value, low, high = told["value"], told.get("low"), told.get("high")
    assert value is not None
    limits = [] if low is None or high is None else [(low, high)]
    return Series(
        model, [value], [row], "accent" if stressed else "ink", None,
        "dot" if stressed else "square", size=10 if stressed else 8, x_interval=limits,
        told=[f"{model}: {score(value)}, {interval(told)}"],
    )  # fmt: skip
