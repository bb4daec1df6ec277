"""The figures of a report page: inline SVG whose colours are the page's, light, dark or printed."""

import re
from collections.abc import Iterable, Mapping
from html import escape
from io import StringIO
from math import ceil, floor

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from lymphoml.evaluation.metrics import THRESHOLD

# Stand-ins, which `inline_svg` turns into the page's CSS variables.
INK, MUTED, RULE, REACTIVE, TUMORAL = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {INK: "ink", MUTED: "muted", RULE: "rule", REACTIVE: "reactive", TUMORAL: "tumoral"}
PANELS = 5  # side by side
BINS = np.linspace(0, 1, 21)


def scores_figure(scores: Mapping[str, Mapping[str, float]]) -> Figure:
    """Balanced accuracies with their intervals on one axis: `value`, `low`, `high` by name."""
    figure = _figure(7.2, 0.45 + 0.33 * len(scores), left=1.2, bottom=0.25)
    axes = _style(figure.add_subplot())
    axes.axvline(0.5, color=MUTED, linewidth=1.2, linestyle=(0, (3, 2)))
    axes.annotate(
        "chance", (0.5, 1), xycoords=("data", "axes fraction"), xytext=(4, 0),
        textcoords="offset points", va="top", color=MUTED, fontsize=9,
    )  # fmt: skip
    for row, score in enumerate(scores.values()):
        axes.plot([score["low"], score["high"]], [row, row], color=INK, linewidth=2)
        axes.plot(score["value"], row, "o" if row == 0 else "s", color=INK, markersize=8)
    lowest = floor(10 * min(0.5, *(score["low"] for score in scores.values()))) / 10
    axes.set_xticks(np.arange(lowest, 1.05, 0.1))
    axes.set_xlim(lowest - 0.01, 1.01)
    axes.set_yticks(range(len(scores)), list(scores))
    axes.set_ylim(len(scores) - 0.4, -0.6)
    axes.grid(axis="x", color=RULE)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


def learning_figure(
    histories: Mapping[int, pd.DataFrame], columns: Mapping[str, str], best: bool = False
) -> Figure:
    """A panel for each fold, with the other folds' validation curves behind it in grey.

    `columns` maps a column of `history.csv` to the line style that draws it, the validation's
    first. `best` marks the highest epoch with a ring, the last with a dot.
    """
    across = min(PANELS, len(histories))
    down = ceil(len(histories) / across)
    figure = _figure(10, 0.5 + 1.75 * down, left=0.4, bottom=0.42, top=0.25)
    spaces = {"wspace": 0.06, "hspace": 0.18}
    grid = figure.subplots(
        down, across, sharex=True, sharey=True, squeeze=False, gridspec_kw=spaces
    ).flat
    validation = next(iter(columns))
    for axes, (fold, history) in zip(grid, histories.items(), strict=False):
        _style(axes)
        axes.grid(axis="y", color=RULE)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        axes.set_title(f"fold {fold}", color=INK, fontsize=9, loc="left")
        for other in histories.values():
            axes.plot(_by_epoch(other, validation), color=RULE, linewidth=0.9)
        for column, style in columns.items():
            axes.plot(_by_epoch(history, column), style, color=INK, linewidth=1.5)
        if best:
            score = _by_epoch(history, validation)
            axes.axhline(0.5, color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
            axes.plot(score.tail(1), "o", color=INK, markersize=5)
            axes.plot(score.nlargest(1), "o", mfc="none", mec=INK, markersize=9)
    for axes in list(grid):
        axes.set_visible(False)
    figure.supxlabel("epoch", color=MUTED, fontsize=9)
    return figure


def roc_figure(repeats: Iterable[pd.DataFrame]) -> Figure:
    """A curve for the out-of-fold predictions of each repeat, with its working point."""
    figure = _figure(4.2, 4.2, left=0.5, bottom=0.5)
    axes = _style(figure.add_subplot())
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, linestyle=(0, (3, 2)))
    for rows in repeats:
        false_positive, true_positive, _ = roc_curve(rows["label"], rows["probability"])
        axes.plot(false_positive, true_positive, color=INK, linewidth=1.6)
        called = rows["probability"] > THRESHOLD
        rates = [called[rows["label"] == label].mean() for label in (0, 1)]
        axes.plot(*rates, "o", color=TUMORAL, markersize=8)
    axes.grid(color=RULE)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("1 - specificity: reactive patients called tumoral", color=MUTED)
    axes.set_ylabel("sensitivity: tumoral patients found", color=MUTED)
    return figure


def histogram_figure(predictions: pd.DataFrame) -> Figure:
    """Patients by probability: tumoral ones upwards, reactive ones downwards."""
    figure = _figure(5.4, 4.2, left=0.4, bottom=0.5)
    axes = _style(figure.add_subplot())
    tallest = []
    for label, sign, name, colour in ((1, 1, "tumoral", TUMORAL), (0, -1, "reactive", REACTIVE)):
        rows = predictions.loc[predictions["label"] == label, "probability"]
        counts, _ = np.histogram(rows, BINS)
        axes.bar(BINS[:-1], sign * counts, 0.044, align="edge", color=colour)
        tallest.append(counts.max())
        axes.annotate(
            f"{name}, {len(rows)}", (0, 0.5 + sign * 0.5), xycoords="axes fraction", color=colour,
            va="top" if sign > 0 else "bottom", fontweight="bold",
        )  # fmt: skip
    room = 0.1 * sum(tallest)  # for the two names
    axes.set(xlim=(0, 1), ylim=(-tallest[1] - room, tallest[0] + room))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.axvline(THRESHOLD, color=MUTED, linewidth=1.2, linestyle=(0, (3, 2)))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, prune="both"))
    axes.yaxis.set_major_formatter(lambda count, _: f"{abs(count):.0f}")
    axes.grid(axis="y", color=RULE)
    axes.set_xlabel("probability of being tumoral", color=MUTED)
    return figure


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an `<svg>` element for HTML: its text stays text, its colours are variables.

    `name` keeps its ids apart from other figures'; `description` is for readers who can't see it.
    """
    text = StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    size = re.search(r'viewBox="([^"]*)"', svg)
    assert size is not None
    body = svg[svg.index("</metadata>") + len("</metadata>") :]
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body).replace("xlink:href", "href")
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return f'<svg viewBox="{size[1]}" role="img" aria-label="{escape(description)}">{body}'


def _figure(width: float, height: float, left: float, bottom: float, top: float = 0.1) -> Figure:
    """A figure with fixed margins, in inches: to have them worked out takes longer than drawing."""
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left / width, bottom / height, 1 - 0.15 / width, 1 - top / height)
    return figure


def _by_epoch(history: pd.DataFrame, column: str) -> pd.Series:
    """By epoch from 1, without those after which nothing was validated."""
    return history.set_index(history["epoch"] + 1)[column].dropna()


def _style(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=9)
    axes.set_axisbelow(True)
    return axes
