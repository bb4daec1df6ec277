"""What a report page says of a run, in plain values for its template."""

from pathlib import PurePath
from typing import Any

import pandas as pd

from lymphoml.evaluation.intervals import wilson
from lymphoml.evaluation.metrics import THRESHOLD, score_fold
from lymphoml.report.runs import Run
from lymphoml.report.settings import flatten

CHANCE = 0.5
MADE_WITH = {"git commit": "git_commit", "data fingerprint": "data_fingerprint",
             "hardware": "hardware", "arithmetic": "settings"}  # fmt: skip


def verdict(score: dict[str, float]) -> str:
    """What the interval of a balanced accuracy says about guessing."""
    if score["low"] > CHANCE:
        return "better than chance"
    return "worse than chance" if score["high"] < CHANCE else "not told apart from chance"


def clinical_baseline(run: Run) -> dict[str, Any] | None:
    """The scores of the clinical values alone in the same folds, where the run tells them."""
    return run.metrics.get("baseline", {}).get("clinical")


def page_content(run: Run) -> dict[str, Any]:
    """The names that `page.html.j2` uses, except for its figures."""
    rows, repeats = run.predictions, run.repeat.nunique()
    pooled = score_fold(rows["label"], rows["probability"])
    patients = run.metrics["n_patients"]
    tumoral = int(pooled["n_positive"]) // repeats
    return {
        "name": run.config.get("name", run.path.name),
        "cohort": run.config["data"].get("name", "cohort"),
        "tags": [run.path.resolve().name, *(run.config.get("tags") or [])],
        "verdict": verdict(run.metrics["balanced_accuracy"]),
        "metrics": run.metrics,
        "baseline": clinical_baseline(run),
        "repeats": repeats,
        "n": {"patients": patients, "tumoral": tumoral, "reactive": patients - tumoral},
        # A mean over repeats, so that the width is that of the patients there are.
        "sensitivity": _proportion(pooled["sensitivity"], tumoral),
        "specificity": _proportion(pooled["specificity"], patients - tumoral),
        "confusion": _confusion(rows),
        "folds": run.metrics["folds"],
        "fold_means": _means(run.metrics["folds"]),
        "reported_epoch": "epoch chosen on inner split"
        if run.config["data"].get("inner_fraction")
        else "last epoch",
        "settings": _settings(run.config),
        "command": run.environment.get("command"),
        "made_with": {
            title: run.environment.get(key) or "not told" for title, key in MADE_WITH.items()
        },
        "versions": run.environment.get("versions") or {"packages": "not told"},
    }


def _confusion(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Tumoral patients, then reactive ones: how many were called what."""
    called = rows["probability"] > THRESHOLD
    table = []
    for label, name in ((1, "tumoral"), (0, "reactive")):
        found = called[rows["label"] == label]
        cells = [
            {"count": int(count), "share": count / len(found), "right": right}
            for count, right in ((found.sum(), label == 1), ((~found).sum(), label == 0))
        ]
        table.append({"name": name, "total": len(found), "cells": cells})
    return table


def _proportion(value: float, n: int) -> dict[str, float]:
    return {"value": value} | wilson(value * n, n)._asdict()


def _means(folds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation over folds of each score."""
    scores = ["balanced_accuracy", "auroc", "best_epoch_balanced_accuracy"]
    table = pd.DataFrame(folds).reindex(columns=scores).astype(float)
    return {str(end): dict(row) for end, row in table.agg(["mean", "std"]).iterrows()}


def _settings(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Group, key and value of all settings that say what was trained."""
    groups: dict[str, dict[str, str]] = {}
    for key, value in flatten(config).items():
        group, _, name = key.partition(".")
        place = group if isinstance(config[group], dict) else "run"
        groups.setdefault(place, {})[name or group] = _shown(value)
    return groups


def _shown(value: Any) -> str:
    """A value as text; of an absolute path only the last part, the rest tells of the machine."""
    if isinstance(value, str) and PurePath(value).is_absolute():
        return f".../{PurePath(value).name}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
