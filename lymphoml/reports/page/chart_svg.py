"""A chart as inline SVG: its colours are the page's, its text is text, no script is needed."""

from collections.abc import Iterator
from html import escape

from lymphoml.reports.page.chart import Axis, Chart, Series

DASHES = {"solid": "", "dash": ' stroke-dasharray="5 4"', "dot": ' stroke-dasharray="1.5 3"'}
BELOW, ABOVE, RIGHT, BESIDE = 44, 12, 10, 22  # margins, units of the view box
LEADING = 1.15  # of lines, in heights of the font


def svg(chart: Chart) -> str:
    """An `<svg>` element that fills the width it is given."""
    body = "".join([*_frame(chart), *(part for s in chart.series for part in _series(chart, s))])
    return (
        f'<svg class="static" viewBox="0 0 {chart.width} {chart.height}" role="img" '
        f'aria-label="{escape(chart.description)}">{body}</svg>'
    )


def margins(chart: Chart) -> tuple[int, int, int, int]:
    """Left, right, top and bottom; plotly is given the same."""
    below = BELOW if chart.x.title else BESIDE
    return chart.left, RIGHT, ABOVE + (14 if chart.title or chart.y.title else 0), below


def colour(name: str) -> str:
    return f"var(--{name})"


def _frame(chart: Chart) -> Iterator[str]:
    left, right, top, bottom = margins(chart)
    floor, edge = chart.height - bottom, chart.width - right
    for place, text in chart.x.ticks.items():
        x = _x(chart, place)
        if chart.x.rules:
            yield f'<path class="rule" d="M{x} {top}V{floor}"/>'
        yield f'<text x="{x}" y="{floor + 16}" text-anchor="middle">{escape(text)}</text>'
    for place, text in chart.y.ticks.items():
        y = _y(chart, place)
        if chart.y.rules:
            yield f'<path class="rule" d="M{left} {y}H{edge}"/>'
        x = left - (8 if chart.y.rules else 14)
        yield from _lines(x, y, text)
    if chart.x.title:
        middle = (left + edge) / 2
        yield (
            f'<text x="{middle:g}" y="{chart.height - 8}" text-anchor="middle">'
            f"{escape(chart.x.title)}</text>"
        )
    if above := chart.title or chart.y.title:
        kind = ' class="title"' if chart.title else ""
        start = left if chart.title else 2
        yield f'<text{kind} x="{start}" y="12">{escape(above)}</text>'


def _lines(x: float, y: float, text: str) -> Iterator[str]:
    """Text that ends at `x`, its lines about the height `y`."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        down = 0.33 + LEADING * (number - (len(lines) - 1) / 2)
        yield f'<text x="{x}" y="{y}" dy="{down:.2f}em" text-anchor="end">{escape(line)}</text>'


def _series(chart: Chart, series: Series) -> Iterator[str]:
    ink = colour(series.colour)
    places = [(_x(chart, x), _y(chart, y)) for x, y in zip(series.x, series.y, strict=True)]
    if series.line:
        path = "M" + "L".join(f"{x} {y}" for x, y in places)
        yield (
            f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="{series.width:g}"'
            f"{DASHES[series.line]}/>"
        )
    for (low, high), (_, y) in zip(series.x_interval, places, strict=False):
        yield _bar(f"M{_x(chart, low)} {y}H{_x(chart, high)}", ink)
    for (low, high), (x, _) in zip(series.y_interval, places, strict=False):
        yield _bar(f"M{x} {_y(chart, low)}V{_y(chart, high)}", ink)
    if series.mark:
        yield f'<g fill="{ink}" stroke="{ink}">'
        yield from (_mark(series, x, y) for x, y in places)
        yield "</g>"


def _bar(path: str, ink: str) -> str:
    return f'<path d="{path}" stroke="{ink}" stroke-width="2"/>'


def _mark(series: Series, x: float, y: float) -> str:
    half = series.size / 2
    if series.mark == "square":
        side = 0.9 * series.size
        return (
            f'<rect x="{x - side / 2:.1f}" y="{y - side / 2:.1f}" width="{side:.1f}" '
            f'height="{side:.1f}" stroke="none"/>'
        )
    if series.mark == "diamond":
        return f'<path d="M{x - half} {y}l{half} {-half}l{half} {half}l{-half} {half}z"/>'
    if series.mark == "ring":
        return f'<circle cx="{x}" cy="{y}" r="{half:g}" fill="none" stroke-width="1.5"/>'
    return f'<circle cx="{x}" cy="{y}" r="{half:g}" stroke="none"/>'


def _x(chart: Chart, value: float) -> float:
    left, right, _, _ = margins(chart)
    return _place(chart.x, value, left, chart.width - right)


def _y(chart: Chart, value: float) -> float:
    _, _, top, bottom = margins(chart)
    return _place(chart.y, value, chart.height - bottom, top)


def _place(axis: Axis, value: float, start: float, end: float) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return round(start + share * (end - start), 1)
