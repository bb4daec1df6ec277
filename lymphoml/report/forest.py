"""Scores with their intervals, one below the other."""

from collections.abc import Mapping

from lymphoml.report.chart import Chart, Series, named_axis, rows_height, share_axis
from lymphoml.report.scores import Scores
from lymphoml.report.wording import TITLES, interval, score


def forest(
    name: str, measure: str, models: Mapping[str, Scores], left: int = 170, runs: int = 1
) -> Chart:
    """One `measure` of each model, the first `runs` stressed; chance, 0.5, is a dashed line.

    Models without the measure keep an empty row.
    """
    chance = 0.5
    told = {model: scores.get(measure) or {} for model, scores in models.items()}
    lows = [limit for each in told.values() if (limit := each.get("low")) is not None]
    values = [value for each in told.values() if (value := each.get("value")) is not None]
    lowest = int(10 * min([chance, *lows, *values])) / 10
    names = named_axis(list(models), left)
    line = Series("chance", [chance, chance], [-0.6, len(models) - 0.4], "muted", "dash", width=1.2)
    rows = [
        _row(model, row, each, row < runs)
        for row, (model, each) in enumerate(told.items())
        if each.get("value") is not None
    ]
    return Chart(
        name=name,
        description=f"{TITLES[measure]} of {', '.join(models)}, with 95 % intervals; "
        f"the dashed line is chance, 0.5",
        x=share_axis("", lowest, 0.1),
        y=names,
        series=[line, *rows],
        height=rows_height(names),
        width=460 if left < 200 else 640,
        left=left,
        title=TITLES[measure],
        numbers=False,
    )


def _row(model: str, row: int, told: Mapping[str, float | None], stressed: bool) -> Series:
    value, low, high = told["value"], told.get("low"), told.get("high")
    assert value is not None
    limits = [] if low is None or high is None else [(low, high)]
    return Series(
        model, [value], [row], "accent" if stressed else "ink", None,
        "dot" if stressed else "square", size=10 if stressed else 8, x_interval=limits,
        told=[f"{model}: {score(value)}, {interval(told)}"],
    )  # fmt: skip
