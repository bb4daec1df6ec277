"""A sweep in numbers: a row a configuration, and a row each baseline that stands beside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lymphoml.evaluation.pooled import split_std
from lymphoml.reports.page.optional import read_baseline, read_hard
from lymphoml.reports.page.scores import Scores, run_scores, told_baselines
from lymphoml.reports.page.settings import differing, flatten
from lymphoml.runs.finished_run import Run

# The settings of the paper's ablation, told even where all runs share them: column and key.
ALWAYS = {
    "optimiser": "optim", "lr": "lr", "scheduler": "scheduler", "decay": "scheduler.gamma",
}  # fmt: skip
HEADLINE = ["balanced_accuracy", "auroc"]


def score_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a configuration, the best pooled balanced accuracy (then AUROC) first."""
    settings = differing([run.config for run in runs])
    return _sorted([_row(run, extra) for run, extra in zip(runs, settings, strict=True)])


def baseline_table(run: Run) -> pd.DataFrame:
    """A row each baseline of a run, in the columns of `score_table` that a baseline has.

    `baseline` is its name in `baselines.csv`; of configurations that column is empty.
    """
    hard = told_baselines(run, "hard")
    rows = [
        _told(scores, hard.get(name, {}), _spread(run, name)) | {"baseline": name}
        for name, scores in told_baselines(run).items()
    ]
    return _sorted(rows) if rows else pd.DataFrame(columns=["baseline"])


def with_other_baselines(runs: Sequence[Run], first: Run) -> list[Run]:
    """The runs that were given other data than `first`: a baseline of theirs scores otherwise."""
    ours = _baselines_at_a_glance(first)
    return [
        run
        for run in runs
        if any(told != ours.get(name, told) for name, told in _baselines_at_a_glance(run).items())
    ]


def _row(run: Run, settings: dict[str, Any]) -> dict[str, Any]:
    flat = flatten(run.config)
    best = run.metrics["best_epoch_balanced_accuracy"]
    everybody = (run_scores(run) or {}) | {name: run.metrics[name] for name in HEADLINE}
    row = {name: flat.get(key) for name, key in ALWAYS.items()}
    row |= {key: value for key, value in settings.items() if key not in ALWAYS.values()}
    row |= _told(everybody, run_scores(run, "hard") or {}, _spread(run))
    row["best_epoch_balanced_accuracy_mean_optimistic"] = best["mean"]
    row["best_epoch_balanced_accuracy_std_optimistic"] = best["std"]
    seconds = run.seconds
    row["seconds_per_fold"] = None if seconds is None else seconds / len(run.histories)
    row["seconds"] = seconds
    return row | {"baseline": None, "run": run.path.name}


def _told(everybody: Scores, hard: Scores, spread: Mapping[str, float]) -> dict[str, Any]:
    """Each score, the limits of its interval, and its standard deviation over repeats."""
    told = {name: everybody.get(name) for name in (*HEADLINE, "specificity_at_95")}
    row: dict[str, Any] = {}
    for name, score in (told | {"hard_auroc": hard.get("auroc")}).items():
        score = score or {}
        row |= {name: score.get("value"), f"{name}_spread": spread.get(name)}
        row |= {f"{name}_{limit}": score.get(limit) for limit in ("low", "high")}
    return row


def _spread(run: Run, baseline: str | None = None) -> dict[str, float]:
    """Over the repeats of a run, or of its baseline; empty where there is one, or none is told."""
    if run.repeat.nunique() < 2:
        return {}
    rows = run.predictions if baseline is None else read_baseline(run, baseline)
    if rows is None:
        return {}
    folds, hard = run.config["data"]["folds"], read_hard(run)
    spread = split_std(rows, folds)
    if hard is not None:
        inside = rows[rows["patient"].isin(hard.index[hard])]
        spread |= {} if inside.empty else {"hard_auroc": split_std(inside, folds)["auroc"]}
    return spread


def _baselines_at_a_glance(run: Run) -> dict[str, list[float | None]]:
    told = told_baselines(run)
    return {key: [scores[name]["value"] for name in HEADLINE] for key, scores in told.items()}


def _sorted(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).sort_values(
        HEADLINE, ascending=False, kind="stable", ignore_index=True
    )
