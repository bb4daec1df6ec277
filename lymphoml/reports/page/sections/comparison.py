"""All scores of the run, its baselines in the same folds, and both in the hard stratum."""

from collections.abc import Iterator
from typing import Any

from lymphoml.reports.format import TITLES, baseline_title, describe_hard_stratum
from lymphoml.reports.page.chart import Chart, forest
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.page.sections.summary import THIS_RUN
from lymphoml.reports.results import STRATA, Scores, run_scores, titled_baselines
from lymphoml.runs.finished_run import Run

TITLE = "Scores and baselines"
THRESHOLDS = {
    "fixed": "0.5, not tuned",
    "nested": "tuned on the other folds",
    "best_on_fold": "tuned on the fold itself (invalid: optimistic)",
}
COLUMNS = ("balanced_accuracy", "auroc", "sensitivity", "specificity")


def content(run: Run, choices: Choices) -> dict[str, Any]:
    scores, baselines = run_scores(run), titled_baselines(run)
    groups = _groups(run)
    thresholds = run.metrics.get("thresholds") or {}
    gains = [run.metrics.get(key) for key in ("gain", "image_gain")]
    return {
        "columns": [TITLES[key] for key in COLUMNS],
        "models": [
            (model, [each.get(key) for key in COLUMNS])
            for model, each in ({THIS_RUN: scores} | baselines).items()
        ],
        "has_clinical": "logistic_regression" in run.metrics["baselines"],
        "gains": [
            (baseline_title(gain["reference"]), list(_gains(gain))) for gain in gains if gain
        ],
        "groups": list(groups),
        "measures": [
            (title, [each.get(key) for each in groups.values()])
            for key, title in TITLES.items()
            if key in scores
        ],
        "thresholds": [
            (title, thresholds[key]["balanced_accuracy"])
            for key, title in THRESHOLDS.items()
            if thresholds.get(key)
        ],
        "nested_95": thresholds.get("nested_95"),
        "hard": describe_hard_stratum(run.config, run.metrics.get("hard_max")),
        "hard_missing": _hard_missing(run),
        "hard_counts": _hard_counts(run),
        "hard_charts": _hard_charts(run),
    }


def _groups(run: Run) -> dict[str, Scores]:
    """By title, the run's scores in each stratum, then those averaged over its repeats."""
    suffix = f", mean of {run.repeat.nunique()} repeats"
    groups = {title: run_scores(run, stratum) for stratum, title in STRATA.items()}
    groups |= {
        title + suffix: run_scores(run, stratum, averaged=True) for stratum, title in STRATA.items()
    }
    return {title: scores for title, scores in groups.items() if scores}


def _gains(gain: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Title and paired difference of each stratum and measure."""
    for stratum, title in STRATA.items():
        for measure, difference in (gain.get(stratum) or {}).items():
            if difference and measure in TITLES:
                yield f"{TITLES[measure]}, {title}", difference


def _hard_missing(run: Run) -> str | None:
    """Why the hard stratum has no scores; None where it has."""
    scores = run_scores(run, "hard")
    if not scores or run.config["data"].get("hard_stratum", ...) is None:
        return "No hard stratum is declared (data.hard_stratum), or no patient is in it."
    if scores["balanced_accuracy"]["value"] is None:
        return "The hard stratum is not estimable: it has only one class."
    return None


def _hard_counts(run: Run) -> dict[str, int] | None:
    if (hard := run.hard_stratum()) is None:
        return None
    labels = run.predictions.drop_duplicates("patient").set_index("patient")["label"]
    inside = labels[labels.index.isin(hard.index[hard])]
    return {"tumoral": int((inside == 1).sum()), "reactive": int((inside == 0).sum())}


def _hard_charts(run: Run) -> list[Chart]:
    models = {THIS_RUN: run_scores(run, "hard")} | titled_baselines(run, "hard")
    return [
        forest("forest-hard-accuracy", "balanced_accuracy", models),
        forest("forest-hard-auroc", "auroc", models),
    ]
