"""The results as one figure, readable in grey: what each variant does, and what changes it."""

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.speed.terminal import SWEEPS, duration

# From light to dark, so that grey tells them apart as well.
COLOURS = {"reference": "#e5a02c", "plain": "#3f87b8", "lymphoml": "#14233c"}
MARKERS = {"reference": "s", "plain": "^", "lymphoml": "o"}
DASHES = {"reference": (0, (1, 1.2)), "plain": (0, (5, 1.5)), "lymphoml": "solid"}
LETTERS = {"reference": "a", "plain": "b", "lymphoml": "c"}
GRID = "#e6e6e6"
MUTED = "#666666"


def speed_figure(results: dict[str, Any]) -> Figure:
    sweeps = {name: points for name, points in results["sweeps"].items() if points}
    figure = Figure(figsize=(13, 8.4 if sweeps else 3.9), layout="constrained", dpi=160)
    rows = figure.subplots(3 if sweeps else 1, 4, squeeze=False)
    condition, settings = results["comparison"]["condition"], results["settings"]
    figure.suptitle(
        f"{results['machine']['hardware']}, {settings['threads']} threads. ResNet18, one patient a "
        f"step. Top: {condition['patients']} patients of {condition['bag']} images, "
        f"{condition['size']} px, dots are rounds." + (_below(settings) if sweeps else ""),
        x=0.01, ha="left", fontsize=11,
    )  # fmt: skip
    runs, medians = results["comparison"]["runs"], results["comparison"]["medians"]
    for axes, key, title in zip(
        rows[0],
        ("training_images_per_second", "inference_images_per_second", "peak_mib"),
        ("training, images/s", "inference, images/s", "peak memory, MiB"),
        strict=False,
    ):
        raw = {v: _flat(run[key] for run in runs if run["variant"] == v) for v in medians}
        _bars(axes, title, {v: row[key] for v, row in medians.items()}, raw, lambda x: f"{x:.0f}")
    paper = results["paper"]
    title = f"the report's table at {paper['size']} px, hours"
    _bars(rows[0][3], title, paper["hours"], {}, duration)
    for column, (sweep, points) in enumerate(sweeps.items()):
        _curves(rows[1][column], sweep, points, "images_per_second", "training, images/s")
        if sweep in ("bag", "size"):
            _curves(rows[2][column], sweep, points, "peak_mib", "peak memory, MiB")
        else:
            decoding = ", decoding included" if settings["sweep_rounds"] == 1 else ""
            title = f"start to first step, s{decoding}"
            _curves(rows[2][column], sweep, points, "first_step_seconds", title)
    handles, labels = rows[1][0].get_legend_handles_labels() if sweeps else ([], [])
    if handles:
        names = [results["variants"][label] for label in labels]
        figure.legend(handles, names, loc="outside lower left", ncols=3, frameon=False)
    return figure


def _below(settings: dict[str, Any]) -> str:
    base, few = settings["sweep_base"], settings["sweep_few"]
    left = f" ({few} on the left)" if few != base["patients"] else ""
    return (
        f"\nBelow: {base['patients']} patients{left} of {base['bag']} images, "
        f"{base['size']} px, no loader workers; one of them changed."
    )


def _bars(
    axes: Axes,
    title: str,
    values: dict[str, float | None],
    raw: dict[str, list[float]],
    words: Callable[[float], str],
) -> None:
    told = {
        variant: "does not fit" if value is None else words(value)
        for variant, value in values.items()
    }
    for place, (variant, value) in enumerate(values.items()):
        shown = value or 0.0
        axes.bar(place, shown, 0.62, color=COLOURS[variant], zorder=2)
        dots = raw.get(variant, [])
        axes.scatter(
            [place] * len(dots), dots, s=14, color="white", edgecolors="black", linewidths=0.8,
            zorder=3,
        )  # fmt: skip
    labels = [f"({LETTERS[variant]}) {variant}\n{words}" for variant, words in told.items()]
    axes.set_xticks(range(len(values)), labels, fontsize=9)
    axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    _dress(axes, title)


def _curves(axes: Axes, sweep: str, points: list[dict[str, Any]], key: str, title: str) -> None:
    places = [point[sweep] for point in points]
    for variant in COLOURS:
        known = [(x, p[variant][key]) for x, p in zip(places, points, strict=True)
                 if p[variant][key] is not None and not p[variant]["obstacle"]]  # fmt: skip
        axes.plot(
            [x for x, _ in known], [y for _, y in known], color=COLOURS[variant],
            marker=MARKERS[variant], linestyle=DASHES[variant], label=variant, markersize=6.5,
            linewidth=1.8, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
    if sweep != "workers":
        axes.set_xscale("log")
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.set_xlabel(SWEEPS[sweep], fontsize=9.5)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    _dress(axes, title)
    lost = [f"({LETTERS[v]}) at {x:,}" for v in COLOURS for x, p in zip(places, points, strict=True)
            if p[v]["obstacle"]]  # fmt: skip
    if lost:
        axes.annotate(
            "does not fit: " + ", ".join(lost), (0.03, 0.03), xycoords="axes fraction", fontsize=8,
            color=MUTED,
        )  # fmt: skip


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="both", labelsize=9)
    axes.tick_params(axis="y", length=0)


def _flat(values: Any) -> list[float]:
    return [
        one for value in values if value is not None
        for one in (value if isinstance(value, list) else [value])
    ]  # fmt: skip
