"""A sweep's learning curves in one axes: readable in grey, and to a colour-blind reader."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.isotonic import isotonic_regression

from lymphoml.core.files import atomic_write

# Okabe and Ito's colours without yellow, which vanishes on white; neighbours differ in lightness.
COLOURS = ("#000000", "#e69f00", "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#777777")
DASHES = ("solid", (0, (5, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LABEL_GAP = 0.052  # of the axes' height, between two lines' labels
MUTED = "#666666"


def ablation_figure(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """One line a configuration, with half a standard deviation over folds shaded.

    `curves` maps a label to the table `epoch`, `mean`, `std`.
    """
    figure = Figure(figsize=(10, max(5.0, 0.32 * len(curves) + 1.5)), layout="constrained", dpi=200)
    axes = figure.add_subplot()
    for index, curve in enumerate(curves.values()):
        half = curve["std"] / 2
        axes.fill_between(
            curve["epoch"], curve["mean"] - half, curve["mean"] + half,
            color=_look(index)["color"], alpha=0.08, linewidth=0,
        )  # fmt: skip
    for index, curve in enumerate(curves.values()):
        every = max(1, len(curve) // 7)
        axes.plot(
            curve["epoch"], curve["mean"], **_look(index),
            linewidth=1.7, markersize=7, markeredgecolor="white", markeredgewidth=0.5,
            markevery=(index % every, every),
        )  # fmt: skip
    last_epoch = max(curve["epoch"].iloc[-1] for curve in curves.values())
    axes.axhline(0.5, color=MUTED, linewidth=0.9, zorder=1)
    axes.annotate(
        "chance", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(-3, -3),
        textcoords="offset points", ha="right", va="top", color=MUTED, fontsize=9,
    )  # fmt: skip
    axes.set_xlim(1 if last_epoch > 1 else 0.5, max(last_epoch, 1.5))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("epoch")
    axes.set_title(
        "Validation balanced accuracy: mean over folds, half a standard deviation shaded",
        loc="left", fontsize=11,
    )  # fmt: skip
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    _label_lines(axes, curves)
    return figure


def write_png(figure: Figure, path: Path) -> None:
    image = BytesIO()
    FigureCanvasAgg(figure).print_png(image, metadata={"Software": None})
    with atomic_write(path) as file:
        file.write(image.getvalue())


def spread(values: np.ndarray, gap: float) -> np.ndarray:
    """The positions nearest to `values`, by least squares, in the same order and `gap` apart."""
    order = np.argsort(values, kind="stable")
    steps = gap * np.arange(len(values))
    placed = np.empty(len(values))
    placed[order] = isotonic_regression(np.asarray(values, float)[order] - steps) + steps
    return placed


def _look(index: int) -> dict[str, Any]:
    """Colour, dash and marker of a line: distinct for 32 of them."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[(index + index // len(COLOURS)) % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def _label_lines(axes: Axes, curves: Mapping[str, pd.DataFrame]) -> None:
    """Each line's name at its end, beside its marker; labels give way to each other."""
    low, high = axes.get_ylim()
    ends = np.array([curve["mean"].iloc[-1] for curve in curves.values()])
    places = spread(ends, LABEL_GAP * (high - low))
    for index, (name, y) in enumerate(zip(curves, places, strict=True)):
        look = _look(index)
        x = curves[name]["epoch"].iloc[-1]
        axes.annotate(
            "", (1.03, y), (x, ends[index]), xycoords=("axes fraction", "data"),
            textcoords="data", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": look["color"], "lw": 0.7, "shrinkA": 0,
                        "shrinkB": 0},
        )  # fmt: skip
        axes.plot(
            [1.045], [y], transform=axes.get_yaxis_transform(), clip_on=False,
            color=look["color"], marker=look["marker"], markersize=7, linestyle="none",
        )  # fmt: skip
        axes.annotate(
            name, (1.065, y), xycoords=("axes fraction", "data"), annotation_clip=False,
            va="center", fontsize=9.5, parse_math=False,
        )  # fmt: skip
