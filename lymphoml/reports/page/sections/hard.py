"""Patients whom one clinical value does not decide: there the images must show their worth."""

from typing import Any

from lymphoml.reports.page.chart import forest
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.optional import read_hard, stratum_in_words
from lymphoml.reports.page.scores import baseline_scores, run_scores
from lymphoml.reports.page.sections.headline import THIS
from lymphoml.runs.finished_run import Run

TITLE = "The hard stratum"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    missing, n = _missing(run), _counts(run)
    scores = run_scores(run, "hard")
    models = {THIS: scores} | baseline_scores(run, "hard") if scores and not missing else {}
    return {
        "old": "scores" not in run.metrics,
        "missing": missing,
        "who": stratum_in_words(run),
        "n": n,
        "charts": [
            forest("forest-hard-accuracy", "balanced_accuracy", models),
            forest("forest-hard-auroc", "auroc", models),
        ]
        if models
        else [],
    }


def _missing(run: Run) -> str | None:
    """Why there is nothing to draw."""
    scores = run_scores(run, "hard")
    if run.config["data"].get("hard_stratum", ...) is None:
        return "None is declared: data.hard_stratum is null."
    if not scores:
        return "Not estimable: no stratum is declared, or no patient lies in it."
    if (scores.get("balanced_accuracy") or {}).get("value") is None:
        return f"Not estimable: one class only among patients of {stratum_in_words(run)}."
    return None


def _counts(run: Run) -> dict[str, int] | None:
    hard = read_hard(run)
    if hard is None:
        return None
    labels = run.predictions.drop_duplicates("patient").set_index("patient")["label"]
    inside = labels[labels.index.isin(hard.index[hard])]
    return {"tumoral": int((inside == 1).sum()), "reactive": int((inside == 0).sum())}
