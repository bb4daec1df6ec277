"""Predict a table of patients with an exported model: the files that a run gives, without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256
from lymphoml.core.progress import progress_bar
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.columns import input_schema
from lymphoml.data.settings import UNREAD, DataConfig
from lymphoml.data.training_range import model_inputs
from lymphoml.deploy.runtime import ExportedModel
from lymphoml.evaluation.cross_conformal import new_scores
from lymphoml.runs import prediction_folder
from lymphoml.runs.checksums import SUMS
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.trained_on import check_encoder, check_overrides
from lymphoml.runs.triage_rule import apply_portable


def predict(
    folder: Path, changes: Mapping[str, Any], out: Path, patients: str, header: tuple[str, str],
    strict: bool = False, allow_unknown_encoder: bool = False,
) -> pd.DataFrame:  # fmt: skip
    """Write `predictions.csv` and `submission.csv` into `out`; return the predictions.

    The columns are those of `lymphoml.runs.predict`; `changes` are to the data settings of the
    model's run. All models predict every patient: who they were trained on is not in the folder.
    Raises InputError where the cohort does not fit the model, or differs from it if `strict`.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"out={out}: is within the model, which may be shared; give another folder"
        )
    model, data = open_model(folder, changes)
    cohort = prediction_folder.choose(load_cohort(data), patients)
    digest = prediction_folder.cohort_digest(cohort, data if model.uses_images else None)
    prediction_folder.check_folder(out, digest)
    if model.uses_images:
        cohort.print_unused()
    store = _features(model, cohort, data, allow_unknown_encoder) if model.features else None
    rows = _probabilities(model, cohort, store)
    probabilities = pd.DataFrame(rows, cohort.table.index, model.folds)
    inputs = model_inputs(cohort, data, bool(model.columns), model.uses_images)
    shift = shift_of(model, inputs)
    shift.report(probabilities, strict)
    outside = shift.outside(probabilities)
    predictions = prediction_folder.summarize(probabilities, outside)
    if model.rule is not None:
        scores = new_scores(probabilities, outside)
        predictions["triage"] = apply_portable(model.rule, scores).to_list()
    source = {"model": sha256(folder / SUMS), "cohort": digest, "own_cohort": False}
    prediction_folder.write(out, predictions, header, source)
    return predictions


def shift_of(model: ExportedModel, inputs: pd.DataFrame) -> CohortShift:
    """Return how `inputs`, a row a patient, differ from the training patients of each fold."""
    shift = CohortShift()
    for fold, ranges in zip(model.folds, model.ranges, strict=True):
        shift.add(fold, inputs, ranges)
    return shift


def open_model(folder: Path, changes: Mapping[str, Any]) -> tuple[ExportedModel, DataConfig]:
    """Return an exported model and its data settings with `changes`. Raises InputError."""
    model = ExportedModel(folder)
    check_overrides({"data": changes})
    unread = UNREAD.get(changes.get("layout") or model.data["layout"], {})
    data = DataConfig.read(_merged(model.data, {"cache": ".cache", **unread, **changes}))
    for name, column in model.columns.items():
        off: dict[str, Any] = {"log": False, "calendar_years": False, "categories": []}
        given = off | input_schema(data.columns[name])
        if differ := [key for key, value in given.items() if (off | column)[key] != value]:
            raise InputError(
                f"data.columns.{name}: {', '.join(differ)} differs from what the model was trained "
                f"with; leave it out"
            )
    return model, data.replace({"clinical": [*model.columns]})  # none that it does not use


def _probabilities(model: ExportedModel, cohort: Cohort, store: Any) -> np.ndarray:
    """Return a row a patient, in the cohort's order, and a column a fold; `store` has vectors."""
    rows = []
    with progress_bar("predicting", len(cohort.table), "patients") as bar:
        for patient in cohort.table.index:
            instances = store.bag(patient) if store else model.read_images(cohort.images[patient])
            try:
                rows.append(model.predict(instances, model.row(cohort.table, patient)).by_fold)
            except InputError as error:
                raise InputError(f"patient {patient}: {each}" for each in error.problems) from None
            bar.advance()
    return np.stack(rows)


def _features(
    model: ExportedModel, cohort: Cohort, data: DataConfig, allow_unknown: bool
) -> Any:  # fmt: skip
    """Return the vectors of the patients' images, which are no part of the model: needs torch."""
    try:
        from lymphoml.features.instance_store import open_instance_store
    except ImportError as error:
        raise InputError(
            f"model={model.folder}: reads feature vectors, and {error.name}, which makes them, "
            f"is not installed; install lymphoml whole"
        ) from None

    store: Any = open_instance_store(data, cohort.images)[0]
    if (file := data.feature_file) is not None:
        check_encoder(model.folder, model.trained_on, file, store.encoder, allow_unknown)
    if store.names != model.features:
        raise InputError("the features differ from those that the model was trained on")
    return store


def _merged(stored: Any, changes: Any) -> Any:
    """Return nested settings with changes."""
    if not isinstance(stored, Mapping) or not isinstance(changes, Mapping):
        return changes
    return {**stored, **{key: _merged(stored.get(key), each) for key, each in changes.items()}}
