"""A chart as plotly reads it: plain dicts; `page.js` puts the page's colours in."""

import base64
import gzip
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from lymphoml.reports.page.chart import Axis, Chart, Series
from lymphoml.reports.page.chart_svg import colour, margins

MARKS = {"dot": "circle", "ring": "circle-open", "square": "square", "diamond": "diamond"}


def figure(chart: Chart) -> dict[str, Any]:
    """`data` and `layout`; every colour of the page stands as `var(--NAME)`.

    What is told of points is escaped: plotly takes it for markup, links included.
    """
    left, right, top, bottom = margins(chart)
    words = {"family": "inherit", "size": 12, "color": "var(--muted)"}
    layout: dict[str, Any] = {
        "xaxis": _axis(chart.x) | {"title": {"text": escape(chart.x.title), "standoff": 6}},
        "yaxis": _axis(chart.y) | {"ticklen": 8 if chart.y.rules else 14},
        "margin": {"l": left, "r": right, "t": top, "b": bottom, "pad": 0},
        "font": words,
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {
            "bgcolor": "var(--paper)", "bordercolor": "var(--muted)",
            "font": {"color": "var(--ink)", "size": 13}, "align": "left",
        },
    }  # fmt: skip
    if above := chart.title or chart.y.title:
        layout["annotations"] = [
            {
                "text": escape(above), "showarrow": False, "xref": "paper", "yref": "paper",
                "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 3,
                "xshift": 0 if chart.title else 2 - left,
                "font": {"color": "var(--ink)" if chart.title else "var(--muted)"},
            }
        ]  # fmt: skip
    return {"data": [_trace(series) for series in chart.series], "layout": layout}


def _axis(axis: Axis) -> dict[str, Any]:
    return {
        "range": [axis.low, axis.high],
        "tickvals": list(axis.ticks),
        "ticktext": [escape(text).replace("\n", "<br>") for text in axis.ticks.values()],
        "showgrid": axis.rules,
        "gridcolor": "var(--rule)",
        "zeroline": False,
        "fixedrange": True,
        "ticks": "outside",
        "ticklen": 3,
        "tickcolor": "rgba(0,0,0,0)",
    }


def _trace(series: Series) -> dict[str, Any]:
    ink = colour(series.colour)
    mode = "+".join(
        kind for kind, drawn in (("lines", series.line), ("markers", series.mark)) if drawn
    )
    trace: dict[str, Any] = {
        "type": "scatter",
        "name": escape(series.name),
        "mode": mode,
        "x": list(series.x),
        "y": list(series.y),
        "line": {"color": ink, "width": series.width, "dash": series.line or "solid"},
        "marker": {
            "color": ink, "size": series.size, "symbol": MARKS[series.mark or "dot"],
            "line": {"color": ink, "width": 1.5 if series.mark == "ring" else 0},
        },
        "cliponaxis": False,
    }  # fmt: skip
    if series.told:
        trace |= {"text": [escape(told) for told in series.told], "hoverinfo": "text"}
    else:
        trace["hoverinfo"] = "skip"
    for axis, limits, values in (
        ("x", series.x_interval, series.x), ("y", series.y_interval, series.y),
    ):  # fmt: skip
        if limits:
            trace[f"error_{axis}"] = _error(limits, values, ink)
    return trace


def _error(limits: Sequence, values: Sequence[float], ink: str) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for (_, high), value in zip(limits, values, strict=True)],
        "arrayminus": [value - low for (low, _), value in zip(limits, values, strict=True)],
        "color": ink,
        "thickness": 2,
        "width": 0,
    }


# plotly's script for a page of its own: 4.8 MB, or 1.5 MB compressed, which browsers unpack.


@cache
def plotly_bundle() -> str:
    """gzip in base64, the same bytes each time; 2.0 MB of text.

    The Python package ships the full bundle only. Browsers since 2023 know `DecompressionStream`;
    an older one keeps the static charts.
    """
    script = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, 9, mtime=0)).decode()
