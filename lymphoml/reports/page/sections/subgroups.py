"""Whether it serves everybody: sensitivity and specificity by group."""

from typing import Any

from lymphoml.reports.page.chart import Chart, Series, named_axis, rows_height, share_axis
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.scores import run_scores
from lymphoml.reports.page.wording import interval, score
from lymphoml.runs.finished_run import Run

TITLE = "Subgroups"
STRATUM = {"1": "yes", "0": "no"}


def content(run: Run, choices: Choices) -> dict[str, Any]:
    groups = [each | {"name": _name(each)} for each in run.metrics.get("subgroups") or []]
    return {
        "groups": groups,
        "charts": [_chart(run, measure, groups) for measure in ("sensitivity", "specificity")]
        if groups
        else [],
        "old": "subgroups" not in run.metrics,
    }


def _name(group: dict[str, Any]) -> str:
    if group["by"] == "hard":
        return f"hard stratum: {STRATUM.get(group['group'], group['group'])}"
    return f"{group['by']}: {group['group']}".replace("_", " ")


def _chart(run: Run, measure: str, groups: list[dict[str, Any]]) -> Chart:
    names = [group["name"] for group in groups]
    told = [group.get(measure) for group in groups]
    lows = [each["low"] for each in told if each]
    overall = (run_scores(run) or {}).get(measure, {}).get("value")
    colour = "tumoral" if measure == "sensitivity" else "reactive"
    series = []
    if overall is not None:
        ends = [-0.6, len(names) - 0.4]
        series.append(Series("all", [overall] * 2, ends, "muted", "dash", width=1.2))
    for row, (name, each) in enumerate(zip(names, told, strict=True)):
        if each:
            series.append(
                Series(name, [each["value"]], [row], colour, None, "dot",
                       x_interval=[(each["low"], each["high"])],
                       told=[f"{name}: {score(each['value'])}, {interval(each)}"])
            )  # fmt: skip
    lowest, left = int(10 * min([0.5, *lows])) / 10, 150
    axis = named_axis(names, left)
    return Chart(
        f"subgroups-{measure}",
        f"{measure} by subgroup with 95 % intervals; the dashed line is everybody's",
        share_axis("", lowest, 0.1 if lowest >= 0.4 else 0.2), axis, series,
        width=460, height=rows_height(axis), left=left, title=measure.capitalize(),
        numbers=False,
    )  # fmt: skip
