"""The top of the page: the score with its interval, against chance and the clinical baseline."""

from typing import Any

from lymphoml.reports.format import TITLES
from lymphoml.reports.page.chart import CHANCE, forest
from lymphoml.reports.page.sections import Choices
from lymphoml.reports.results import count_patients, run_scores, titled_baselines
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
        "verdict": verdict(scores["balanced_accuracy"], CHANCE, "chance"),
        "accuracy": scores["balanced_accuracy"],
        "averaged": run_scores(run, averaged=True),
        "repeats": run.repeat.nunique(),
        "cards": [(TITLES[measure], scores[measure]) for measure in CARDS],
        "n": count_patients(run),
        "changes": run.changes,
        "control": bool(run.config["data"].get("shuffle_bag_labels")),
        "gain": gain,
        "gain_verdict": verdict(gain, 0, "the clinical values alone"),
        "charts": [
            forest("forest-accuracy", "balanced_accuracy", models),
            forest("forest-auroc", "auroc", models),
        ],
    }


def verdict(score: dict[str, Any] | None, level: float, name: str) -> str | None:
    """Whether the score is above `level`, which is called `name`, by its interval."""
    if not score or score.get("low") is None:
        return None
    if score["low"] > level:
        return f"better than {name}"
    return (
        f"worse than {name}"
        if score["high"] < level
        else f"not significantly different from {name}"
    )
