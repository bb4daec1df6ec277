"""A sweep's learning curves in one chart, as Figure 3 of Queric and Herfeld's report."""

from collections.abc import Sequence

from lymphoml.core.errors import InputError
from lymphoml.reports.ablation.summary import epoch_curve
from lymphoml.reports.page.chart import Chart, Series, count_axis, share_axis
from lymphoml.reports.page.names import run_labels
from lymphoml.runs.finished_run import Run

# As in the sweep's printed figure (Okabe and Ito), darkened or lightened to stand out on the page.
COLOURS = ("ink", "orange", "blue", "sky", "vermilion", "green", "pink", "grey")
MARKS = ("dot", "square", "diamond", "ring")
LINES = ("solid", "dash", "dot")


def sweep_chart(runs: Sequence[Run]) -> Chart | None:
    """Mean validation balanced accuracy over folds by epoch, a line a run, the highest end first.

    None where no run was validated.
    """
    names, curves = run_labels(runs), {}
    for run in runs:
        try:
            curves[names[run.path]] = epoch_curve(run)
        except InputError:
            continue
    if not curves:
        return None
    ordered = sorted(curves.items(), key=lambda pair: -pair[1]["mean"].iloc[-1])
    lowest = min([0.5, *(curve["mean"].min() for curve in curves.values())])
    last = max(int(curve["epoch"].max()) for curve in curves.values())
    chance = Series("chance", [1, last], [0.5, 0.5], "muted", "dash", width=1.2)
    series = []
    for number, (name, curve) in enumerate(ordered):
        told = [
            f"{name}, epoch {row.epoch}: {row.mean:.3f}, over folds ± {row.std:.3f}"
            for row in curve.itertuples()
        ]
        colour = COLOURS[number % len(COLOURS)]
        series.append(
            Series(name, curve["epoch"].tolist(), curve["mean"].tolist(), colour,
                   LINES[number % len(LINES)], MARKS[number % len(MARKS)], size=6, told=told,
                   named=True)
        )  # fmt: skip
    return Chart(
        "sweep", "Validation balanced accuracy by epoch, mean over folds, a line a configuration",
        count_axis("epoch", last, most=10),
        share_axis("validation balanced accuracy, mean over folds", int(10 * lowest) / 10, 0.1),
        [chance, *series], width=640, height=380,
    )  # fmt: skip
