"""The end of a run: once every fold is done, its scores, baselines and subgroups."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256, write_csv, write_json
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.cohort import subgroups
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.persons import count_persons
from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.summary import summarise
from lymphoml.runs.baselines import IMAGE_FEATURES, baseline_features, baseline_predictions
from lymphoml.runs.checksums import is_complete, verify_checksums, write_checksums
from lymphoml.runs.fold_lock import fold_folder, is_done
from lymphoml.runs.prepare import RunContext
from lymphoml.runs.provenance import CHANGES, weights_file
from lymphoml.runs.run_folder import (
    SUBGROUPS,
    read_environment,
    read_predictions,
    run_lock,
    write_out_of_fold,
)
from lymphoml.runs.trained_on import check_folds
from lymphoml.training.loggers.tracker import Tracker


def aggregate_folds(run: RunContext, tracker: Tracker) -> float:
    """Complete the run if all its folds are done; return the balanced accuracy of what there is."""
    folder = run.folder
    folds = sorted(run.data.folds["fold"].unique().tolist())
    if not all(is_done(folder, fold) for fold in folds):
        part = read_predictions(folder, run.config.folds_to_train)
        return score_fold(part["label"], part["probability"])["balanced_accuracy"]
    with run_lock(folder):
        if not is_complete(folder):
            _write_results(run, folds, tracker)
        elif run.data.store is not None:
            _print_other_baselines(folder, run.config.data.image_baselines)
    return _balanced_accuracy(folder / "metrics.json")


def _print_other_baselines(folder: Path, wanted: Sequence[str]) -> None:
    verify_checksums(folder)
    found = IMAGE_FEATURES.keys() & set(pd.read_csv(folder / "baselines.csv", nrows=0))
    if found != {*wanted}:
        print(
            f"the run is finished, with data.image_baselines=[{','.join(sorted(found))}]; for "
            f"[{','.join(wanted)}], unless they could not be made, remove "
            f"{folder / 'metrics.json'} and rerun",
            flush=True,
        )


def _write_results(run: RunContext, folds: list[int], tracker: Tracker) -> None:
    folder, data = run.folder, run.config.data
    for fold in folds:
        verify_checksums(fold_folder(folder, fold), weights=True)
    check_folds(folder)  # which may have been copied here
    predictions = read_predictions(folder, folds)
    seed, features = run.config.seed, _features(run)
    baselines = baseline_predictions(data, run.data.cohort, run.data.folds, features, seed)
    groups = subgroups(run.data.cohort, data)
    hard_max = None if data.hard_stratum is None else data.hard_stratum.max
    histories = {fold: pd.read_csv(fold_folder(folder, fold) / "history.csv") for fold in folds}
    persons = count_persons(run.data.cohort, data, run.data.folds)
    metrics = summarise(predictions, histories, data.folds, groups, baselines, hard_max, persons)
    if changes := read_environment(folder).get(CHANGES):
        metrics[CHANGES] = changes
    if run.data.store is not None and (unused := run.data.cohort.unused_files):
        metrics["unused_files"] = unused
    if (weights := weights_file(run.config)) is not None:
        metrics["encoder_weights"] = {"file": weights.name, "sha256": sha256(weights)}
    write_out_of_fold(folder, predictions)
    write_csv(folder / "baselines.csv", baselines)
    write_csv(folder / SUBGROUPS, groups.rename_axis("patient").reset_index())
    tracker.log_cross_validation(metrics)
    write_json(folder / "metrics.json", metrics)
    write_checksums(folder)


def _balanced_accuracy(path: Path) -> float:
    advice = "remove it, and rerun the same command"
    score = read_mapping(path, advice).get("balanced_accuracy")
    value = score.get("value") if isinstance(score, dict) else None
    if not isinstance(value, float | int):
        raise InputError(f"{path} has no balanced_accuracy; {advice}")
    return float(value)


def _features(run: RunContext) -> dict[str, FeatureStore]:
    """For the baselines of images; none where the run uses none or they cannot be computed."""
    if run.data.store is None:
        return {}
    try:
        return baseline_features(run.config.data, run.data.cohort)
    except InputError as error:
        print(f"the baselines of images are left out: {error.problems[0]}", flush=True)
        return {}
