"""Summarise a sweep as the paper's ablation: table, learning curves, folds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rcdefaults
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lymphoml.core.files import atomic_write, write_csv
from lymphoml.reports.comparison.compare import Comparison
from lymphoml.reports.format import TITLES, baseline_title, format_estimate
from lymphoml.reports.page.chart import Chart, Series, count_axis, share_axis
from lymphoml.reports.results import STRATA, baseline_scores, run_scores, score_std
from lymphoml.reports.run_labels import flatten, run_labels, varying_settings
from lymphoml.runs.finished_run import Run

# The settings that the paper's ablation varies: column and key; shown even where they are equal.
PAPER_SETTINGS = {
    "optimiser": "optim", "lr": "lr", "scheduler": "scheduler", "decay": "scheduler.gamma",
}  # fmt: skip
# Columns of the table: stratum and score.
SHOWN = {
    "balanced_accuracy": ("all", "balanced_accuracy"), "auroc": ("all", "auroc"),
    "hard_auroc": ("hard", "auroc"), "specificity_at_95": ("all", "specificity_at_95"),
}  # fmt: skip
BEST = "best_epoch_balanced_accuracy"
# Okabe and Ito without yellow, by the page's names of them; and what a curve without colour needs.
COLOURS = {
    "ink": "#000000", "orange": "#e69f00", "blue": "#0072b2", "sky": "#56b4e9",
    "vermilion": "#d55e00", "green": "#009e73", "pink": "#cc79a7", "grey": "#777777",
}  # fmt: skip
MARKERS = {"dot": "o", "square": "s", "diamond": "D", "ring": "X"}
LINES = {"solid": "-", "dash": "--", "dot": ":"}


def write_sweep(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `ablation.csv`, `ablation_folds.csv` and, where any was validated, `ablation.png`."""
    paths = [folder / "ablation.csv", folder / "ablation_folds.csv"]
    runs = list(comparison.runs.values())
    write_csv(paths[0], ablation_table(comparison.runs))
    folds = [fold_table(run).assign(run=name) for name, run in comparison.runs.items()]
    write_csv(paths[1], pd.concat(folds).set_index("run").reset_index())
    if (chart := sweep_chart(runs)) is not None:
        paths.append(folder / "ablation.png")
        with atomic_write(paths[-1]) as file:
            figure = draw_sweep(chart, final_scores(runs))
            FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return paths


def ablation_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """One row per run, then per baseline of the first: settings, scores with std, durations."""
    settings = varying_settings([run.config for run in runs.values()])
    rows = []
    for (name, run), varying in zip(runs.items(), settings, strict=True):
        flat = flatten(run.config)
        row: dict[str, Any] = {"run": name, "baseline": None}
        row |= {column: flat.get(key) for column, key in PAPER_SETTINGS.items()}
        row |= {k: value for k, value in varying.items() if k not in PAPER_SETTINGS.values()}
        row |= _score_columns(run)
        row |= {f"{BEST}_{end}_optimistic": run.metrics[BEST][end] for end in ("mean", "std")}
        row["std_over_epochs"] = std_over_epochs(run)
        row["seconds_per_fold"] = run.seconds and run.seconds / len(run.histories)
        rows.append(row)
    if fitted := next((run for run in runs.values() if run.metrics["baselines"]), None):
        names = fitted.metrics["baselines"]
        rows += [{"baseline": name} | _score_columns(fitted, name) for name in names]
    return pd.DataFrame(rows)


def _score_columns(run: Run, baseline: str | None = None) -> dict[str, Any]:
    columns = {}
    std = {stratum: score_std(run, stratum, baseline) for stratum in STRATA}
    for column, (stratum, score) in SHOWN.items():
        of_baselines = baseline_scores(run, stratum)
        scores = of_baselines.get(baseline, {}) if baseline else run_scores(run, stratum)
        values = scores.get(score, {})
        columns[column] = values.get("value")
        columns |= {f"{column}_{end}": values.get(end) for end in ("low", "high")}
        columns[f"{column}_std"] = std[stratum].get(score)
    return columns


def fold_table(run: Run) -> pd.DataFrame:
    """The scores of each fold, then their mean and sample standard deviation."""
    folds = pd.DataFrame(run.metrics["folds"]).set_index("fold")
    scores = folds[["balanced_accuracy", BEST, "auroc"]].astype(float)
    scores = scores.rename(columns={BEST: f"{BEST}_optimistic"})
    table = pd.concat([scores, scores.agg(["mean", "std"])])
    table.insert(1, "best_epoch", folds["best_epoch"].astype("Int64"))
    return table.rename_axis("fold").reset_index()


def epoch_curve(run: Run) -> pd.DataFrame:
    """Validation balanced accuracy by epoch (from 1) that all folds have: epoch, mean, std.

    A fold of one class has none in any epoch, and does not count.
    """
    folds = [table.set_index("epoch")["val/balanced_accuracy"] for table in run.histories.values()]
    scores = pd.concat(folds, axis="columns").dropna(how="all").astype(float)
    scores = scores.dropna(axis="columns", how="all").dropna()
    std = scores.std(axis="columns", ddof=1).fillna(0.0)
    curve = pd.DataFrame({"mean": scores.mean(axis="columns"), "std": std})
    return curve.rename_axis("epoch").reset_index().assign(epoch=lambda table: table["epoch"] + 1)


def std_over_epochs(run: Run) -> float:
    """How unsteady training is: standard deviation of the balanced accuracy over the second half
    of a fold's validated epochs, mean over folds."""
    curves = [table["val/balanced_accuracy"].dropna() for table in run.histories.values()]
    late = [curve[len(curve) // 2 :].std(ddof=1) for curve in curves]
    return float(pd.Series(late, dtype=float).mean())


def final_scores(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """By label, the pooled out-of-fold balanced accuracy that is reported, with its interval."""
    labels = run_labels(runs)
    return {labels[run.path]: run.metrics["balanced_accuracy"] for run in runs}


def sweep_chart(runs: Sequence[Run]) -> Chart | None:
    """The paper's Figure 3, a line a run, the highest end first; None where none was validated."""
    labels = run_labels(runs)
    curves = {labels[run.path]: curve for run in runs if not (curve := epoch_curve(run)).empty}
    if not curves:
        return None
    ordered = sorted(curves.items(), key=lambda pair: -pair[1]["mean"].iloc[-1])
    last = max(int(curve["epoch"].max()) for curve in curves.values())
    series = [Series("chance", [1, last], [0.5, 0.5], "muted", "dash", width=1.2)]
    looks = [list(each) for each in (COLOURS, LINES, MARKERS)]
    for number, (label, curve) in enumerate(ordered):
        colour, line, marker = (look[number % len(look)] for look in looks)
        half = curve["std"] / 2
        tooltips = [
            f"{label}, epoch {row.epoch}: {row.mean:.3f} ± {row.std:.3f} over folds"
            for row in curve.itertuples()
        ]
        band = list(zip(curve["mean"] - half, curve["mean"] + half, strict=True))
        series.append(
            Series(label, curve["epoch"].tolist(), curve["mean"].tolist(), colour, line, marker,
                   size=6, tooltips=tooltips, in_legend=True, band=band)
        )  # fmt: skip
    lowest = min(0.5, *(curve["mean"].min() for curve in curves.values()))
    return Chart(
        "Validation balanced accuracy by epoch, mean over folds, one line per run",
        count_axis("epoch", last),
        share_axis("validation balanced accuracy, mean over folds", lowest),
        series, width=640, height=380,
    )  # fmt: skip


def draw_sweep(chart: Chart, final: Mapping[str, Mapping[str, float]]) -> Figure:
    """The chart of `sweep_chart` in matplotlib, readable in grey, and `final_scores` next to it."""
    rcdefaults()  # whatever a matplotlibrc says
    figure = Figure(figsize=(13, 6), layout="constrained", dpi=200)
    curves, scores = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1])
    shown = [series for series in chart.series if series.name in final]
    for series in chart.series:
        colour = COLOURS.get(series.colour, "#666666")
        marker = MARKERS[series.marker] if series.marker else None
        curves.plot(
            series.x, series.y, LINES[series.line or "solid"], color=colour, marker=marker,
            label=series.name, linewidth=series.width, markevery=max(1, len(series.x) // 7),
        )  # fmt: skip
        if series.band:
            low, high = zip(*series.band, strict=True)
            curves.fill_between(series.x, low, high, color=colour, alpha=0.08, linewidth=0)
    for place, series in enumerate(shown):
        score, colour = final[series.name], COLOURS[series.colour]
        scores.plot([place, place], [score["low"], score["high"]], color=colour)
        scores.plot(place, score["value"], MARKERS[series.marker or "dot"], color=colour)
    curves.set(xlabel=chart.x.title, ylabel=chart.y.title)
    curves.set_xticks(list(chart.x.ticks), list(chart.x.ticks.values()))
    curves.set_title("Mean over folds; half a standard deviation shaded", loc="left", fontsize=11)
    scores.set_title(
        "As reported: all patients,\nout of fold, 95 % intervals", loc="left", fontsize=11
    )
    scores.set_xticks([])
    scores.axhline(0.5, color="#666666", linestyle="--", linewidth=1.2)
    for axes in (curves, scores):
        axes.grid(axis="y", color="#e6e6e6")
    handles, names = curves.get_legend_handles_labels()
    legend = figure.legend(handles, names, loc="outside right center", frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def print_sweep(comparison: Comparison, console: Console) -> None:
    """Print the table of runs, the best first, and baselines."""
    table = Table(
        title=f"{len(comparison.runs)} runs, out of fold", title_justify="left",
        caption="Baselines: of the first run that has any. ±: over repeats; of best epochs, over "
        "folds. Best epochs and the best run are chosen on the patients they are scored on.",
        caption_justify="left",
    )  # fmt: skip
    table.add_column("run", overflow="fold")
    for stratum, score in SHOWN.values():
        where = ",\nhard stratum" if stratum == "hard" else ""
        table.add_column(f"{TITLES[score]}{where}\n\\[95 %]", justify="right")
    table.add_column("s per\nfold", justify="right")
    table.add_column("best epochs\n(optimistic)", justify="right", style="dim")
    config = next(iter(comparison.runs.values())).config
    for row in ablation_table(comparison.runs).to_dict("records"):
        name = row["run"]
        if pd.isna(name):
            name = f"baseline: {baseline_title(row['baseline'], config)}"
        seconds, best = row["seconds_per_fold"], row[f"{BEST}_mean_optimistic"]
        cells = [_cell(row, column) for column in SHOWN]
        cells.append("" if pd.isna(seconds) else f"{seconds:,.0f}")
        cells.append("" if pd.isna(best) else f"{best:.3f}\n± {row[f'{BEST}_std_optimistic']:.3f}")
        table.add_row(*map(escape, [name, *cells]))
    console.print(table)


def _cell(row: dict[Any, Any], column: str) -> str:
    if pd.isna(row[column]):
        return ""
    values = {"value": row[column], "low": row[f"{column}_low"], "high": row[f"{column}_high"]}
    std = row[f"{column}_std"]
    return format_estimate(values).replace(" ", "\n" if pd.isna(std) else f" ± {std:.3f}\n", 1)
