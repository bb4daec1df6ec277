"""Charts: axes and series in data units, drawn as inline SVG in the page's colours."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor
from textwrap import TextWrapper

from lymphoml.reports.format import TITLES, format_estimate
from lymphoml.reports.results import Scores

Pairs = Sequence[tuple[float, float]]
LETTER = 7  # width of a letter of 12 px in units of the view box, at most
CHANCE = 0.5
DASHES = {"solid": "", "dash": ' stroke-dasharray="5 4"', "dot": ' stroke-dasharray="1.5 3"'}
RIGHT, TOP, TITLE = 10, 12, 14  # margins, units of the view box
BOTTOM, BOTTOM_TITLED = 22, 44
LEADING = 1.15  # of lines, in heights of the font
HIT = 8  # radius at which a point answers the pointer


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
    """`description` is for readers who cannot see the chart."""

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
    measure: str, models: Mapping[str, Scores], left: int = 170, runs: int = 1,
    reference: float | None = CHANCE, colour: str = "accent",
) -> Chart:  # fmt: skip
    """One `measure` of each model with its interval, the first `runs` in `colour`."""
    scores = {model: each.get(measure) or {} for model, each in models.items()}
    known = [value for each in scores.values() for value in (each.get("value"), each.get("low"))]
    lowest = min([CHANCE, *(value for value in known if value is not None)])
    wrapper = _Wrapper(int((left - 14) / LETTER), break_on_hyphens=False)
    rows = {row: "\n".join(wrapper.wrap(model)) for row, model in enumerate(scores)}
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
        f"{TITLES[measure]} of {', '.join(models)}, with 95 % intervals",
        share_axis("", lowest), Axis("", ends[1], ends[0], rows, grid=False), series,
        width=460 if left < 200 else 640, height=56 + (12 + 14 * lines) * len(rows), left=left,
        title=TITLES[measure], data_table=False,
    )  # fmt: skip


class _Wrapper(TextWrapper):
    """Breaks behind commas and spaces where possible."""

    wordsep_simple_re = re.compile(r"(\s+|(?<=,))")


def svg(chart: Chart) -> str:
    """An `<svg>` element that fills the width it is given."""
    body = "".join([*_frame(chart), *(part for s in chart.series for part in _series(chart, s)),
                    *(part for s in chart.series for part in _tooltips(chart, s))])  # fmt: skip
    return (
        f'<svg class="chart" viewBox="0 0 {chart.width} {chart.height}" role="img" '
        f'aria-label="{escape(chart.description)}">{body}</svg>'
    )


def margins(chart: Chart) -> tuple[int, int, int, int]:
    """Left, right, top and bottom."""
    top = TOP + (TITLE if chart.title or chart.y.title else 0)
    return chart.left, RIGHT, top, BOTTOM_TITLED if chart.x.title else BOTTOM


def marker(kind: str, x: float, y: float, size: float) -> str:
    """A marker about a point, in the current fill and stroke."""
    half = size / 2
    if kind == "square":
        x, y, side = x - 0.45 * size, y - 0.45 * size, f"{0.9 * size:.1f}"
        return f'<rect x="{x:.1f}" y="{y:.1f}" width="{side}" height="{side}" stroke="none"/>'
    if kind == "diamond":
        return f'<path d="M{x - half} {y}l{half} {-half}l{half} {half}l{-half} {half}z"/>'
    look = 'fill="none" stroke-width="1.5"' if kind == "ring" else 'stroke="none"'
    return f'<circle cx="{x}" cy="{y}" r="{half:g}" {look}/>'


def legend_key(series: Series) -> str:
    """The line and marker of a series, for a legend."""
    line = f'<path d="M0 6H26" stroke-width="2"{DASHES[series.line]}/>' if series.line else ""
    drawn = line + (marker(series.marker, 13, 6, 9) if series.marker else "")
    ink = f"var(--{series.colour})"
    return (
        f'<svg class="key" viewBox="0 0 26 12" aria-hidden="true"><g fill="{ink}" stroke="{ink}">'
        f"{drawn}</g></svg>"
    )


def _frame(chart: Chart) -> Iterator[str]:
    left, right, top, bottom = margins(chart)
    bottom, edge = chart.height - bottom, chart.width - right
    for place, text in chart.x.ticks.items():
        x = _x(chart, place)
        if chart.x.grid:
            yield f'<path class="grid" d="M{x} {top}V{bottom}"/>'
        yield f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{escape(text)}</text>'
    for place, text in chart.y.ticks.items():
        y = _y(chart, place)
        if chart.y.grid:
            yield f'<path class="grid" d="M{left} {y}H{edge}"/>'
        yield from _lines(left - (8 if chart.y.grid else 14), y, text)
    if chart.x.title:
        yield (
            f'<text x="{(left + edge) / 2:g}" y="{chart.height - 8}" text-anchor="middle">'
            f"{escape(chart.x.title)}</text>"
        )
    if chart.title:
        yield f'<text class="title" x="{left}" y="12">{escape(chart.title)}</text>'
    elif chart.y.title:
        yield f'<text x="2" y="12">{escape(chart.y.title)}</text>'


def _lines(x: float, y: float, text: str) -> Iterator[str]:
    """Text that ends at `x`, its lines about the height `y`."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        down = 0.33 + LEADING * (number - (len(lines) - 1) / 2)
        yield f'<text x="{x}" y="{y}" dy="{down:.2f}em" text-anchor="end">{escape(line)}</text>'


def _series(chart: Chart, series: Series) -> Iterator[str]:
    ink = f"var(--{series.colour})"
    points = _points(chart, series)
    if series.band:
        across = [point[0] for point in points]
        upper = [(a, _y(chart, high)) for a, (_, high) in zip(across, series.band, strict=True)]
        lower = [(a, _y(chart, low)) for a, (low, _) in zip(across, series.band, strict=True)]
        yield f'<path class="band" d="{_path([*upper, *reversed(lower)])}z" fill="{ink}"/>'
    if series.line:
        yield (
            f'<path d="{_path(points)}" fill="none" stroke="{ink}" '
            f'stroke-width="{series.width:g}"{DASHES[series.line]}/>'
        )
    for (low, high), (_, y) in zip(series.x_interval, points, strict=False):
        yield f'<path d="M{_x(chart, low)} {y}H{_x(chart, high)}" stroke="{ink}" stroke-width="2"/>'
    for (low, high), (x, _) in zip(series.y_interval, points, strict=False):
        yield f'<path d="M{x} {_y(chart, low)}V{_y(chart, high)}" stroke="{ink}" stroke-width="2"/>'
    if series.marker:
        drawn = "".join(marker(series.marker, x, y, series.size) for x, y in points)
        yield f'<g fill="{ink}" stroke="{ink}">{drawn}</g>'


def _tooltips(chart: Chart, series: Series) -> Iterator[str]:
    """Transparent circles above everything else, which browsers answer with their titles."""
    for (x, y), text in zip(_points(chart, series), series.tooltips, strict=False):
        title = f"<title>{escape(text)}</title>"
        yield f'<circle class="hit" cx="{x}" cy="{y}" r="{HIT}">{title}</circle>'


def _points(chart: Chart, series: Series) -> list[tuple[float, float]]:
    return [(_x(chart, x), _y(chart, y)) for x, y in zip(series.x, series.y, strict=True)]


def _path(points: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _x(chart: Chart, value: float) -> float:
    left, right, _, _ = margins(chart)
    return _place(chart.x, value, left, chart.width - right)


def _y(chart: Chart, value: float) -> float:
    _, _, top, bottom = margins(chart)
    return _place(chart.y, value, chart.height - bottom, top)


def _place(axis: Axis, value: float, start: float, end: float) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return round(start + share * (end - start), 1)
