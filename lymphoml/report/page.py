"""One self-contained HTML page of a finished run: no script, no request, no patient's id."""

from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lymphoml.errors import InputError
from lymphoml.evaluation.intervals import wilson
from lymphoml.evaluation.metrics import THRESHOLD, score_fold
from lymphoml.files import write_text
from lymphoml.report import figures
from lymphoml.report.runs import Run, read_run
from lymphoml.report.settings import UNINFORMATIVE, flatten

CHANCE = 0.5
MADE_WITH = {"git commit": "git_commit", "data fingerprint": "data_fingerprint",
             "hardware": "hardware", "arithmetic": "settings"}  # fmt: skip


def write_report(run: Path, out: Path, baseline: Path | None = None) -> Path:
    """Write the page of the run in folder `run` to `out`, and return `out`.

    `baseline` is the run of a clinical model on the same patients, to stand beside the scores.
    Raises InputError where a run is unfinished, or the two have other patients.
    """
    this = read_run(run)
    other = None if baseline is None else read_run(baseline)
    if other is not None and set(other.folds["patient"]) != set(this.folds["patient"]):
        raise InputError(
            f"{baseline} has other patients than {run}; give a clinical run of the same cohort"
        )
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": _score, "interval": _interval}
    page = environment.get_template("page.html.j2").render(
        _content(this, other), figures=_figures(this, other)
    )
    write_text(out, page)
    return out


def verdict(score: dict[str, float]) -> str:
    """What the interval of a balanced accuracy says about guessing."""
    if score["low"] > CHANCE:
        return "better than chance"
    return "worse than chance" if score["high"] < CHANCE else "not told apart from chance"


def _content(run: Run, baseline: Run | None) -> dict[str, Any]:
    rows, repeats = run.predictions, run.repeat.nunique()
    pooled = score_fold(rows["label"], rows["probability"])
    patients = run.metrics["n_patients"]
    tumoral = pooled["n_positive"] // repeats
    return {
        "name": run.config.get("name", run.path.name),
        "cohort": run.config["data"].get("name", "cohort"),
        "tags": [run.path.name, *(run.config.get("tags") or [])],
        "verdict": verdict(run.metrics["balanced_accuracy"]),
        "metrics": run.metrics,
        "baseline": None if baseline is None else baseline.metrics,
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


def _figures(run: Run, baseline: Run | None) -> dict[str, Markup]:
    scores = {"this run": run.metrics["balanced_accuracy"]}
    if baseline is not None:
        scores["clinical baseline"] = baseline.metrics["balanced_accuracy"]
    repeats = [rows for _, rows in run.predictions.groupby(run.repeat)]
    accuracy, loss = {"val/balanced_accuracy": "-"}, {"val/loss": "-", "train/loss": ":"}
    drawn = {
        "scores": (figures.scores_figure(scores), "Balanced accuracy with its 95 % interval"),
        "accuracy": (
            figures.learning_figure(run.histories, accuracy, best=True),
            "Validation balanced accuracy by epoch, a panel for each fold",
        ),
        "loss": (
            figures.learning_figure(run.histories, loss),
            "Training and validation loss by epoch, a panel for each fold",
        ),
        "roc": (figures.roc_figure(repeats), "ROC curve of the out-of-fold predictions"),
        "histogram": (
            figures.histogram_figure(run.predictions),
            "Histogram of the predicted probability for tumoral and for reactive patients",
        ),
    }
    return {
        name: Markup(figures.inline_svg(figure, name, description))  # noqa: S704
        for name, (figure, description) in drawn.items()
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
        table.append({"name": name, "cells": cells})
    return table


def _proportion(value: float, n: int) -> dict[str, float]:
    return {"value": value} | wilson(value * n, n)._asdict()


def _means(folds: Iterable[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation over folds of each score."""
    scores = ["balanced_accuracy", "auroc", "best_epoch_balanced_accuracy"]
    table = pd.DataFrame(folds).reindex(columns=scores).astype(float)
    return {str(end): dict(row) for end, row in table.agg(["mean", "std"]).iterrows()}


def _settings(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Group, key and value of all settings that say what was trained."""
    groups: dict[str, dict[str, str]] = {}
    for key, value in flatten(config).items():
        group, _, name = key.partition(".")
        if group in UNINFORMATIVE or key in ("data.root", "data.cache"):
            continue
        nested = isinstance(config[group], dict)
        groups.setdefault(group if nested else "run", {})[name or group] = _shown(value)
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


def _score(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.3f}"


def _interval(score: dict[str, float | None]) -> str:
    return f"{_score(score['low'])} to {_score(score['high'])}"
