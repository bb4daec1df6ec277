"""The top of the page: the score with its interval, against chance and the clinical baseline."""

from typing import Any

from lymphoml.reports.format import TITLES
from lymphoml.reports.page.chart import CHANCE, forest
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.results import averaged_scores, count_patients, run_scores, titled_baselines
from lymphoml.runs.finished_run import Run

CARDS = ("balanced_accuracy", "auroc", "sensitivity", "specificity")
THIS_RUN = "this run"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    scores = run_scores(run)
    models = {THIS_RUN: scores} | titled_baselines(run)
    gain = ((run.metrics.get("gain") or {}).get("all") or {}).get("balanced_accuracy")
    return {
        "name": run.config.get("name", run.path.name),
        "cohort": run.config["data"].get("name", "cohort"),
        "tags": [run.path.resolve().name, *(run.config.get("tags") or [])],
        "verdict": verdict(scores["balanced_accuracy"]),
        "accuracy": scores["balanced_accuracy"],
        "averaged": averaged_scores(run),
        "repeats": run.repeat.nunique(),
        "cards": [(TITLES[measure], scores[measure]) for measure in CARDS],
        "n": count_patients(run),
        "changes": run.changes,
        "control": bool(run.config["data"].get("shuffle_bag_labels")),
        "gain": gain,
        "gain_verdict": gain_verdict(gain),
        "charts": [
            forest("forest-accuracy", "balanced_accuracy", models),
            forest("forest-auroc", "auroc", models),
        ],
    }


def verdict(score: dict[str, float]) -> str:
    """Balanced accuracy against chance, by its interval."""
    if score["low"] > CHANCE:
        return "better than chance"
    return (
        "worse than chance" if score["high"] < CHANCE else "not significantly different from chance"
    )


def gain_verdict(gain: dict[str, Any] | None) -> str | None:
    """Balanced accuracy against the clinical baseline, by the interval of the paired difference."""
    if not gain or gain.get("low") is None:
        return None
    if gain["low"] > 0:
        return "better than the clinical values alone"
    if gain["high"] < 0:
        return "worse than the clinical values alone"
    return "not significantly different from the clinical values alone"
