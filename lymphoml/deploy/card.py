"""The exported folder's README.md: a model card as Hugging Face reads it, and its picture."""

from collections.abc import Mapping
from math import isfinite, isnan
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from lymphoml.core.files import atomic_write, write_text
from lymphoml.evaluation.calibration import (
    calibration_intercept,
    calibration_slope,
    reliability_bins,
)
from lymphoml.runs.finished_run import Run

TITLES = {
    "auroc": "AUROC", "balanced_accuracy": "balanced accuracy", "sensitivity": "sensitivity",
    "specificity": "specificity", "specificity_at_95": "specificity at 95 % sensitivity",
    "brier": "Brier score",
}  # fmt: skip
HUB = {"auroc": "roc_auc", "brier": "brier_score"}  # Hugging Face's names
GUARANTEES = {"average": "on average over cohorts", "confidence": "in 95 % of cohorts"}


def write_card(
    folder: Path, run: Run, config: Mapping[str, Any], inputs: Mapping[str, Any],
    rule: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Write README.md and calibration.png of an exported run.

    `config` and `inputs` are the contents of config.json and preprocessing.json.
    """
    rows = run.predictions[run.repeat == 0]
    patients = rows["label"], rows["probability"].astype(float)
    _draw(folder / "calibration.png", reliability_bins(*patients))
    name, scores = config["name"], run.metrics["scores"]
    hard_max, data = run.metrics["hard_max"], config["data"]
    hard = None
    if hard_max is not None and scores["hard"]:
        hard = f"{data['hard_stratum']['column']} up to {hard_max:g}, as in the training data"
    environment = Environment(loader=PackageLoader("lymphoml.deploy", "."), autoescape=False,
                              undefined=StrictUndefined, keep_trailing_newline=True)  # fmt: skip
    environment.filters["score"] = _text
    text = environment.get_template("card.md.j2").render(
        front=_front_matter(name, data["name"], scores["all"]), name=name, cohort=data["name"],
        inputs=inputs, model=config["model"], n_models=len(config["folds"]), n_patients=len(rows),
        n_tumoral=int((rows["label"] == 1).sum()), n_reactive=int((rows["label"] == 0).sum()),
        hard=hard, subgroups=run.metrics["subgroups"], quantized=config.get("quantized"),
        titles=TITLES, scores=[scores["all"], *([scores["hard"]] if hard else [])],
        slope=calibration_slope(*patients)._asdict(), rule=rule, guarantees=GUARANTEES,
        intercept=calibration_intercept(*patients)._asdict(), parity=config["parity"],
        repeated=run.repeat.nunique() > 1,
    )  # fmt: skip
    write_text(folder / "README.md", text)


def _front_matter(name: str, cohort: str, scores: Mapping[str, Any]) -> str:
    metrics = [
        {"type": HUB.get(key, key), "name": title, "value": round(scores[key]["value"], 4)}
        for key, title in TITLES.items()
        if scores.get(key)
    ]
    result = {"task": {"type": "image-classification"}, "metrics": metrics,
              "dataset": {"type": "private", "name": cohort}}  # fmt: skip
    content = {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": ["multiple-instance-learning", "hematology", "research-only"],
        "metrics": [each["type"] for each in metrics],
        "model-index": [{"name": name, "results": [result]}],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _text(score: Mapping[str, float] | None) -> str:
    """Return a value with its interval."""
    if score is None or score["value"] is None or score["value"] != score["value"]:
        return "not defined"
    value, *limits = (score[key] for key in ("value", "low", "high"))
    if all(each is None or isnan(each) for each in limits):
        return f"{_number(value)} (no interval)"
    low, high = map(_number, limits)
    return f"{_number(value)} [{low}, {high}]"


def _number(value: float) -> str:
    """Return it with two decimals; the slope of separated classes is infinite."""
    return f"{value:.2f}" if isfinite(value) else "∞" if value > 0 else "−∞"


def _draw(path: Path, bins: pd.DataFrame) -> None:
    """Draw the observed share of tumoral patients by predicted probability, in bins."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    spread = [bins["observed"] - bins["low"], bins["high"] - bins["observed"]]
    axes.errorbar(bins["probability"], bins["observed"], spread, fmt="o", color="C0", capsize=3)
    axes.set(xlabel="predicted probability", ylabel="observed share, 95 % interval",
             xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))  # fmt: skip
    with atomic_write(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
