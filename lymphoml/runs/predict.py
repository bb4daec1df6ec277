"""Predict new patients: the mean over a run's folds, and how far these differ."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.files import csv_text, write_text
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.data.feature_store import FeatureScaler, FeatureStore
from lymphoml.data.folds import split
from lymphoml.data.image_store import ImageStore
from lymphoml.data.training_range import model_inputs
from lymphoml.features.instance_store import check_features, open_instance_store
from lymphoml.features.pretraining.settings import INPUTS, PRETRAINED
from lymphoml.models.build import uses_clinical, uses_images
from lymphoml.runs import test_set_log
from lymphoml.runs.checksums import verify_checksums
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.ensemble import mean_probability
from lymphoml.runs.fold_lock import fold_folder, is_done
from lymphoml.runs.prepare import Store, load_run_encoder
from lymphoml.runs.provenance import data_fingerprints, read_changes
from lymphoml.runs.run_folder import (
    ROW_KEYS,
    read_environment,
    read_predictions_csv,
    selected_epoch,
)
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.triage_rule import apply_rule, read_rule
from lymphoml.training.checkpoint import load_checkpoint, reported_checkpoint
from lymphoml.training.checkpoint_schema import FoldCheckpoint
from lymphoml.training.hardware import configure_torch, resolve_hardware
from lymphoml.training.predict_fold import checkpoint_predictions
from lymphoml.training.trainer import make_trainer


def predict(
    run: Path,
    members: Mapping[Path, TrainConfig],
    out: Path,
    patients: str,
    header: tuple[str, str],
    strict: bool = False,
) -> pd.DataFrame:
    """Write `predictions.csv` and `submission.csv` into `out`; return the predictions, a row each.

    `members` are the runs whose models predict for `run`, itself or an ensemble's
    (`resolve_members`), each with its configuration; `patients` is `unlabelled` or `all`. Columns:
    patient, probability (mean over folds; in each fold that of the members' mean logit),
    standard_deviation (over folds, blank where one model predicted), label (probability above 0.5),
    outside_range (a reason, see `CohortShift`), and, where the run has a rule, triage (`rule_out`
    or `test`). How the patients differ from the trained is printed; an InputError if `strict`.

    A patient of the run, by id or as the person suspected behind another, is predicted by the
    models that did not train on that person. Unlabelled patients are counted in the run's ledger.
    Raises InputError where the cohort does not fit the run.
    """
    folds = {member: check_run(member, config) for member, config in members.items()}
    rule = read_rule(run)
    shift = CohortShift()
    tables: list[pd.DataFrame] = []
    own = True  # whether the cohort is the one that every member was trained on
    for member, config in members.items():
        cohort = load_cohort(config.data)
        fingerprint = cohort.labelled.fingerprint()[:16]
        known = data_fingerprints(read_environment(member))
        own &= any(each.startswith(fingerprint) for each in known)
        chosen = _choose(cohort, patients)
        if tables and list(chosen.table.index) != list(tables[0].index):
            raise InputError(
                f"run {member}: its data settings find other patients than those of "
                f"{next(iter(members))}. Give data.root=DIR."
            )
        if not tables and uses_images(config.model):
            chosen.print_unused()
        tables.append(fold_probabilities(member, config, chosen, folds[member], shift))
    probabilities = tables[0]
    if len(tables) > 1:
        averaged = mean_probability(tables)
        probabilities = pd.DataFrame(averaged, probabilities.index, probabilities.columns)
    probabilities = _without_trained(run, probabilities, cohort, config.data.folds, own)
    shift.report(probabilities, strict)
    outside = shift.outside(probabilities)
    predictions = _summarize(probabilities).assign(outside_range=outside.max(axis=1).to_numpy())
    if rule is not None:
        scores = probabilities.mask(outside != "", np.inf)
        predictions["triage"] = apply_rule(run, rule, scores).to_list()
    content = csv_text(out / "predictions.csv", predictions)
    submission = predictions[["patient", "label"]].set_axis(list(header), axis=1)
    sent = csv_text(out / "submission.csv", submission)
    if unlabelled := int((cohort.table["label"].loc[probabilities.index] < 0).sum()):
        # Before the files: every use is recorded, wherever a kill strikes.
        test_set_log.record(run, "predict", sha256(content.encode()).hexdigest(), unlabelled)
    write_text(out / "submission.csv", sent)
    write_text(out / "predictions.csv", content)
    return predictions


def _summarize(probabilities: pd.DataFrame) -> pd.DataFrame:
    """The mean over folds, how far these differ, and the label, a row a patient."""
    mean, deviation = probabilities.mean(axis=1), probabilities.std(axis=1, ddof=0)
    return pd.DataFrame(
        {
            "patient": probabilities.index,
            "probability": mean.to_numpy(),
            "standard_deviation": deviation.where(probabilities.count(axis=1) > 1).to_numpy(),
            "label": (mean > 0.5).astype(int).to_numpy(),
        }
    )


def check_run(run: Path, config: TrainConfig) -> list[int]:
    """Return the folds of a run that can predict with `config`; InputError where one cannot."""
    check_features(config)
    verify_checksums(run, weights=True)
    table = read_predictions_csv(run / "folds.csv", ROW_KEYS)
    folds = sorted(table["fold"].unique().tolist())
    for fold in folds:
        if not is_done(run, fold):
            raise InputError(f"run {run}: fold {fold} is not finished. Rerun its command.")
    changed = {change.what for _, change in read_changes(read_environment(run))}
    if inputs := sorted(changed & _input_keys(config)):
        raise InputError(
            f"run {run}: {', '.join(inputs)} changed while it was trained, so its folds have "
            f"different inputs and cannot predict together. Train a new run."
        )
    return folds


def _input_keys(config: TrainConfig) -> set[str]:
    """The settings that decide on what a fold's model is given of a patient's images."""
    if not uses_images(config.model):
        return set()
    data, keys = config.data, {"data.eval_bag_size"}
    if not data.holds_features:
        keys |= {f"data.{key}" for key in (*INPUTS, "eval_tta")}
    if PRETRAINED in data.features.blocks:
        keys |= {f"pretrain.{key}" for key in INPUTS}
    if data.features.blocks:
        keys.add("data.features.seed")  # a network's features have the same names for every seed
    return keys


def fold_probabilities(
    run: Path,
    config: TrainConfig,
    cohort: Cohort,
    folds: list[int],
    shift: CohortShift | None = None,
) -> pd.DataFrame:
    """Return a row a patient, in the cohort's order, and a column a fold.

    `shift` is given what each model was trained on. Raises InputError where the cohort does not
    fit the run.
    """
    configure_torch(resolve_hardware(config.trainer))
    ids = list(cohort.table.index)
    with_images = uses_images(config.model)
    pretrain = config.pretrain if PRETRAINED in config.data.features.blocks else None
    store: Store | None = None
    inputs = None
    if shift is not None:
        inputs = model_inputs(cohort, config.data, uses_clinical(config.model), with_images)
    columns = {}
    for fold in folds:
        if with_images and (store is None or pretrain):
            encoder = load_run_encoder(run, fold, pretrain) if pretrain else None
            store, _ = open_instance_store(config.data, cohort.images, encoder)
        folder = fold_folder(run, fold)
        path = reported_checkpoint(folder, selected_epoch(run, fold))
        checkpoint = load_checkpoint(path, FoldCheckpoint)
        state = checkpoint["BagDataModule"]
        bags = _bags(state, run, fold, config, cohort, store)
        trainer = make_trainer(config.trainer, folder, logger=False, callbacks=[])
        table, _ = checkpoint_predictions(checkpoint, folder, trainer, bags)
        if shift is not None and inputs is not None:
            shift.add(fold, inputs, state["ranges"])
        columns[fold] = table.set_index("patient")["probability"]
    return pd.DataFrame(columns).loc[ids]


def _bags(
    state: dict[str, Any],
    run: Path,
    fold: int,
    config: TrainConfig,
    cohort: Cohort,
    store: Store | None,
) -> PatientBags:
    """The cohort's bags, scaled as the fold's data module `state`; InputError where they differ."""
    features = FeatureScaler(**state["features"]) if state["features"] else None
    size = list(store.size) if isinstance(store, ImageStore) else None
    names = store.names if isinstance(store, FeatureStore) else None
    for what, trained, given in (
        ("clinical columns", state["schema"], cohort.schema),
        ("image size after crop and resize", state["image_size"], size),
        ("features", features and features.names, names),
    ):
        if trained != given:
            raise InputError(
                f"cohort {config.data.root}: its {what} differ from those that {run} was trained "
                f"on: {quoted(str(given), 200)} against {quoted(str(trained), 200)}. Predict with "
                f"the data settings of the run."
            )
    clinical, ids = ClinicalEncoder(**state["clinical"]), list(cohort.table.index)
    return PatientBags(config.data, cohort, store, ids, clinical, config.seed, fold, features)


def _choose(cohort: Cohort, patients: str) -> Cohort:
    if patients not in ("unlabelled", "all"):
        raise InputError(f"patients={patients}: must be unlabelled or all")
    chosen = cohort if patients == "all" else cohort.unlabelled
    if not len(chosen.table):
        raise InputError(
            f"cohort {cohort.name}: every patient has a label. patients=all predicts them all."
        )
    return chosen


def _without_trained(
    run: Path, probabilities: pd.DataFrame, cohort: Cohort, folds_per_repeat: int, own: bool
) -> pd.DataFrame:
    """NaN where a fold's model was trained on the person; prints who is known to the run.

    A person known by another id alone is predicted by all models where all were trained on that
    person. `own` says whether the cohort is the run's.
    """
    folds, ids = read_predictions_csv(run / "folds.csv", ROW_KEYS), probabilities.index
    persons, by_id = cohort.table["group"], pd.DataFrame(False, ids, probabilities.columns)
    by_person = by_id.copy()
    for fold in folds["fold"].unique():
        trained, _ = split(folds, fold, folds_per_repeat)
        by_id[fold] = ids.isin(trained)
        trained_persons = persons[persons.index.isin(trained)]
        by_person[fold] = persons[ids].isin(trained_persons).to_numpy()
    known = ids.isin(folds["patient"])
    by_person[known] = False  # the id decides
    by_person[by_person.all(axis=1)] = False
    if others := int(by_person.any(axis=1).sum()):
        print(
            f"{others} of these patients seem to be persons of the run under another id: each is "
            f"predicted by the models not trained on that person"
        )
    if known.any() and not own:
        print(
            f"{known.sum()} of these patients have ids of the run, in a table that is not the "
            f"run's: each is predicted by the models not trained on that id alone; give other "
            f"persons other ids"
        )
    return probabilities.mask(np.asarray(by_id | by_person))
