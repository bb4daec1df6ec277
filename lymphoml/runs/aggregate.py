"""The end of a run: once every fold is done, its scores and all that stands beside them."""

from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256, write_csv, write_json
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.strata import strata
from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.summary import summarise
from lymphoml.runs import provenance, run_folder
from lymphoml.runs.baselines import baseline_features, baseline_predictions
from lymphoml.runs.prepare import RunContext
from lymphoml.training.loggers import Tracker


def complete(config: dict[str, Any], folder: Path, prepared: RunContext, tracker: Tracker) -> float:
    """Complete the run if all its folds are done; the score pooled over what there is."""
    every = sorted(prepared.folds["fold"].unique().tolist())
    per_repeat = config["data"]["folds"]
    if not all(run_folder.is_done(folder, fold) for fold in every):
        part = run_folder.read_predictions(folder, prepared.asked)
        return score_fold(part["label"], part["probability"])["balanced_accuracy"]
    with run_folder.run_lock(folder):
        if not (folder / "metrics.json").exists():
            predictions = run_folder.read_predictions(folder, every)
            baselines = baseline_predictions(
                config["data"], prepared.cohort, prepared.folds, _features(config, prepared)
            )
            groups = strata(prepared.cohort, config["data"])
            stratum = config["data"]["hard_stratum"]
            metrics = summarise(
                predictions, run_folder.read_histories(folder, every), per_repeat,
                groups, baselines, stratum and stratum["max"],
            )  # fmt: skip
            if drifted := run_folder.read_environment(folder).get(provenance.KEY):
                metrics[provenance.KEY] = drifted
            if prepared.weights is not None:
                metrics["encoder_weights"] = {
                    "file": prepared.weights.name,
                    "sha256": sha256(prepared.weights),
                }
            write_csv(folder / "predictions.csv", predictions)
            write_csv(folder / "baselines.csv", baselines)
            write_csv(folder / "strata.csv", groups.rename_axis("patient").reset_index())
            tracker.log_cross_validation(metrics)
            write_json(folder / "metrics.json", metrics)
    return _pooled(folder / "metrics.json")


def _pooled(path: Path) -> float:
    advice = "remove it, and give the same command again"
    score = read_mapping(path, advice).get("balanced_accuracy")
    value = score.get("value") if isinstance(score, dict) else None
    if not isinstance(value, float | int):
        raise InputError(f"{path} holds no balanced_accuracy; {advice}")
    return float(value)


def _features(config: dict[str, Any], prepared: RunContext) -> dict[str, FeatureStore]:
    """For the baselines of images; none where the run looks at none or they cannot be measured."""
    if prepared.store is None:
        return {}
    try:
        return baseline_features(config["data"], prepared.cohort)
    except InputError as error:
        print(f"the baselines of images are left out: {error.problems[0]}", flush=True)
        return {}
