"""Every measure of the run, and of the baselines in the same folds."""

from typing import Any

from lymphoml.report.choices import Choices
from lymphoml.report.optional import stratum_in_words
from lymphoml.report.runs import Run
from lymphoml.report.scores import Scores, averaged_scores, baseline_scores, run_scores
from lymphoml.report.sections.headline import THIS
from lymphoml.report.wording import TITLES, baseline_name

TITLE = "Scores and baselines"
THRESHOLDS = {
    "fixed": "0.5, not tuned",
    "nested": "tuned on the other folds",
    "best_on_fold": "tuned on the fold itself",
}
BESIDE = ("balanced_accuracy", "auroc", "sensitivity", "specificity")


def content(run: Run, choices: Choices) -> dict[str, Any]:
    everybody = run_scores(run) or {}
    baselines = baseline_scores(run)
    whom = _whom(run, everybody)
    told_gains = [run.metrics.get(key) for key in ("gain", "image_gain")]
    words = (" on the clinical values", " with the clinical values")
    if not run.config["data"].get("clinical"):
        words = ("", "")
    return {
        "measured": list(whom),
        "measures": [
            (title, [scores.get(key) for scores in whom.values()])
            for key, title in TITLES.items()
            if key in everybody
        ],
        "columns": [TITLES[key] for key in BESIDE],
        "models": [
            (model, [scores.get(key) for key in BESIDE])
            for model, scores in ({THIS: everybody} | baselines).items()
        ],
        "clinical": baseline_name("logistic_regression") in baselines,
        "gains": [
            (baseline_name(gain["reference"]) + on, list(_gains(gain)))
            for gain, on in zip(told_gains, words, strict=True)
            if gain
        ],
        "thresholds": [
            (THRESHOLDS[key], told["balanced_accuracy"], told.get("invalid", False))
            for key, told in (run.metrics.get("thresholds") or {}).items()
            if key in THRESHOLDS and told
        ],
        "ruled_out": (run.metrics.get("thresholds") or {}).get("nested_95"),
        "old": "scores" not in run.metrics,
    }


def _whom(run: Run, everybody: Scores) -> dict[str, Scores]:
    """By whom they are of, the run's own scores, then those averaged over its repeats."""
    averaged = f"mean of {run.repeat.nunique()} repeats"
    told = {
        "everybody": everybody,
        f"hard stratum, {stratum_in_words(run)}": run_scores(run, "hard"),
        f"everybody, {averaged}": averaged_scores(run),
        f"hard stratum, {averaged}": averaged_scores(run, "hard"),
    }
    return {who: scores for who, scores in told.items() if scores is not None}


def _gains(gain: dict[str, Any]) -> Any:
    """Who is counted, the measure, and the paired difference."""
    for key, who in (("everybody", "everybody"), ("hard", "hard stratum")):
        for measure, told in (gain.get(key) or {}).items():
            if told and measure in TITLES:
                yield who, TITLES[measure], told
