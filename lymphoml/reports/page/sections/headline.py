"""What a reader in a hurry takes away: the score, its interval, chance, the clinical values."""

from typing import Any

from lymphoml.reports.page.chart import forest
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.scores import averaged_scores, baseline_scores, counts, run_scores
from lymphoml.reports.page.wording import baseline_name
from lymphoml.runs.finished_run import Run

CHANCE = 0.5
CARDS = ("balanced_accuracy", "auroc", "sensitivity", "specificity")
THIS = "this run"


def content(run: Run, choices: Choices) -> dict[str, Any]:
    scores = run_scores(run) or {}
    baselines = baseline_scores(run)
    models = {THIS: scores} | baselines
    return {
        "name": run.config.get("name", run.path.name),
        "cohort": run.config["data"].get("name", "cohort"),
        "tags": [run.path.resolve().name, *(run.config.get("tags") or [])],
        "verdict": verdict(run.metrics["balanced_accuracy"]),
        "accuracy": run.metrics["balanced_accuracy"],
        "averaged": averaged_scores(run),
        "repeats": run.repeat.nunique(),
        "cards": {measure: scores[measure] for measure in CARDS if measure in scores},
        "n": counts(run),
        "baselines": baselines,
        "clinical": baselines.get(baseline_name("logistic_regression")),
        "drift": run.changes,
        "control": bool(run.config["data"].get("shuffle_bag_labels")),
        "gain": run.metrics.get("gain"),
        "gain_verdict": gain_verdict(run.metrics.get("gain")),
        "charts": [
            forest("forest-accuracy", "balanced_accuracy", models),
            forest("forest-auroc", "auroc", models),
        ],
    }


def verdict(score: dict[str, float]) -> str:
    """What the interval of a balanced accuracy says about guessing."""
    if score["low"] > CHANCE:
        return "better than chance"
    return "worse than chance" if score["high"] < CHANCE else "not told apart from chance"


def gain_verdict(gain: dict[str, Any] | None) -> str | None:
    """What the paired interval says about the images' worth beside the clinical values."""
    told = ((gain or {}).get("all") or {}).get("balanced_accuracy")
    if not told or told.get("low") is None:
        return None
    if told["low"] > 0:
        return "more than the clinical values alone"
    if told["high"] < 0:
        return "less than the clinical values alone"
    return "not told apart from the clinical values alone"
