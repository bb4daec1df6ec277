"""The results as tables in the terminal."""

from typing import Any

from rich.console import Console
from rich.table import Table

ROWS = (
    ("training, images/s", "training_images_per_second", ".1f"),
    ("inference, images/s", "inference_images_per_second", ".1f"),
    ("peak memory, MiB", "peak_mib", ".0f"),
    ("GPU memory, MiB", "cuda_peak_mib", ".0f"),
    ("first step after, s", "first_step_seconds", ".1f"),
)
UNITS = {"bag": "images", "patients": "patients", "workers": "workers", "size": "px"}
ALLOWED = 0.2  # cores busy with others, in this process and the system
SWEEPS = {"bag": "images a patient", "patients": "patients", "workers": "loader workers",
          "size": "pixels a side"}  # fmt: skip


def show(results: dict[str, Any], console: Console) -> None:
    console.print(_comparison(results))
    console.print(_ratios(results))
    if any(results["sweeps"].values()):
        console.print(_sweeps(results))
    others = results["settings"]["others_cores"]
    if others is not None and others["highest"] > results["settings"]["spare_cores"] + ALLOWED:
        console.print(
            f"not alone: others kept {others['median']} cores busy, at worst {others['highest']}; "
            f"measure again on a quiet machine",
            style="bold",
        )


def _comparison(results: dict[str, Any]) -> Table:
    condition, settings = results["comparison"]["condition"], results["settings"]
    rounds = [run["round"] for run in results["comparison"]["runs"]]
    table = _table(
        f"{results['machine']['hardware']}, {settings['threads']} threads: {condition['patients']} "
        f"patients of {condition['bag']} images, {condition['size']} px, medians of "
        f"{max(rounds) + 1} rounds",
        "", *results["variants"].values(),
    )  # fmt: skip
    table.add_row("precision", *settings["precision"].values())
    for words, key, form in ROWS:
        values = [row[key] for row in results["comparison"]["medians"].values()]
        if any(value is not None for value in values):
            table.add_row(words, *(number(value, form) for value in values))
    paper = results["paper"]
    table.add_row(
        f"report's table, {paper['size']} px",
        *(duration(value) for value in paper["hours"].values()),
    )
    return table


def _ratios(results: dict[str, Any]) -> Table:
    table = _table("ratios within a round: median (lowest to highest)", "", "training", "inference")
    training, inference = (results["comparison"]["ratios"][n] for n in ("training", "inference"))
    for pair, value in training.items():
        table.add_row(pair, _spread(value), _spread(inference[pair]))
    return table


def _sweeps(results: dict[str, Any]) -> Table:
    table = _table(
        "training images/s | peak MiB | seconds to the first step",
        "", *results["variants"].values(),
    )  # fmt: skip
    for sweep, points in results["sweeps"].items():
        for point in points:
            table.add_row(
                f"{point[sweep]} {UNITS[sweep]}",
                *(_point(point[variant]) for variant in results["variants"]),
                end_section=point is points[-1],
            )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def _point(point: dict[str, Any]) -> str:
    if point["obstacle"]:
        return "does not fit"
    speed, peak = number(point["images_per_second"], ".0f"), number(point["peak_mib"], ".0f")
    return f"{speed} | {peak} | {number(point['first_step_seconds'], '.1f')}"


def _spread(value: dict[str, float] | None) -> str:
    if value is None:
        return "-"
    return f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f})"


def number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def duration(hours: float | None) -> str:
    if hours is None:
        return "-"
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
