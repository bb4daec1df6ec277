"""Patients whom the lymphocyte count does not decide: there the images must show their worth."""

from typing import Any

from lymphoml.report.choices import Choices
from lymphoml.report.forest import forest
from lymphoml.report.optional import read_hard
from lymphoml.report.runs import Run
from lymphoml.report.scores import baseline_scores, run_scores
from lymphoml.report.sections.headline import THIS

TITLE = "The hard stratum"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    scores = run_scores(run, "hard")
    models = {THIS: scores} | baseline_scores(run, "hard") if scores else {}
    return {
        "old": "scores" not in run.metrics,
        "scores": scores,
        "cut": run.metrics.get("hard_cut"),
        "n": _counts(run),
        "charts": [
            forest("forest-hard-accuracy", "balanced_accuracy", models),
            forest("forest-hard-auroc", "auroc", models),
        ]
        if models
        else [],
    }


def _counts(run: Run) -> dict[str, int] | None:
    hard = read_hard(run)
    if hard is None:
        return None
    labels = run.predictions.drop_duplicates("patient").set_index("patient")["label"]
    inside = labels[labels.index.isin(hard.index[hard])]
    return {"tumoral": int((inside == 1).sum()), "reactive": int((inside == 0).sum())}
