"""Draw a chart as inline SVG: the page's colours, text as text, tooltips without a script."""

from collections.abc import Iterator
from html import escape

from lymphoml.reports.page.chart import Axis, Chart, Series

DASHES = {"solid": "", "dash": ' stroke-dasharray="5 4"', "dot": ' stroke-dasharray="1.5 3"'}
RIGHT, TOP, TITLE = 10, 12, 14  # margins, units of the view box
BOTTOM, BOTTOM_TITLED = 22, 44
LEADING = 1.15  # of lines, in heights of the font
HIT = 8  # radius at which a point answers the pointer


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
        side, corner = f"{0.9 * size:.1f}", (f"{x - 0.45 * size:.1f}", f"{y - 0.45 * size:.1f}")
        return (
            f'<rect x="{corner[0]}" y="{corner[1]}" width="{side}" height="{side}" stroke="none"/>'
        )
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
    floor, edge = chart.height - bottom, chart.width - right
    for place, text in chart.x.ticks.items():
        x = _x(chart, place)
        if chart.x.grid:
            yield f'<path class="grid" d="M{x} {top}V{floor}"/>'
        yield f'<text x="{x}" y="{floor + 16}" text-anchor="middle">{escape(text)}</text>'
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
        yield (
            f'<circle class="hit" cx="{x}" cy="{y}" r="{HIT}"><title>{escape(text)}</title>'
            f"</circle>"
        )


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
