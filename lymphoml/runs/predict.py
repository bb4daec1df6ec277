"""Predict new patients: the mean over a run's folds, and how far these differ."""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from lymphoml.core.errors import InputError, quoted
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.data.feature_files import read_encoder
from lymphoml.data.feature_store import FeatureScaler, FeatureStore
from lymphoml.data.image_store import ImageStore
from lymphoml.data.training_range import model_inputs
from lymphoml.evaluation.cross_conformal import new_scores
from lymphoml.features.instance_store import check_features, open_instance_store
from lymphoml.features.pretraining.settings import INPUTS, PRETRAINED
from lymphoml.models.build import uses_clinical, uses_images
from lymphoml.models.mil import MILModel
from lymphoml.runs import prediction_folder, test_set_log
from lymphoml.runs.checksums import SUMS, verify_checksums
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.ensemble import mean_probability
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.known_patients import KnownTo, known_to, without_trained
from lymphoml.runs.prepare import Store, load_run_encoder
from lymphoml.runs.provenance import read_changes
from lymphoml.runs.run_folder import (
    all_folds,
    describe_unfinished,
    named_folds,
    read_environment,
    selected_epoch,
)
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.trained_on import TrainedOn, check_encoder, check_folds
from lymphoml.runs.triage_rule import apply_rule, read_rule
from lymphoml.training.checkpoint import load_checkpoint, reported_checkpoint
from lymphoml.training.checkpoint_schema import FoldCheckpoint
from lymphoml.training.hardware import configure_torch, resolve_hardware
from lymphoml.training.lightning_module import BagClassifier
from lymphoml.training.predict_fold import checkpoint_predictions, load_module
from lymphoml.training.trainer import make_trainer


def predict(
    run: Path, members: Mapping[Path, TrainConfig], out: Path | None, patients: str,
    header: tuple[str, str], strict: bool = False, allow_unknown_encoder: bool = False,
    folds: Sequence[int] = (),
) -> pd.DataFrame:  # fmt: skip
    """Write `predictions.csv` and `submission.csv` into `out`; return the predictions, a row each.

    `members` are the runs whose models predict for `run` (`resolve_members`), each with its
    configuration; `patients` is `unlabelled` or `all`. Columns: patient, probability (mean over
    folds; in each fold that of the members' mean logit), standard_deviation (over folds, blank
    where one model predicted), lowest and highest (probability of a fold's model), label
    (probability above 0.5), outside_range (a reason, see `CohortShift`), and, where the run has a
    rule, triage (`rule_out` or `test`).

    A patient of the run, by id, person or images, is predicted by the models that did not train on
    that person. Unlabelled patients are counted in the run's ledger. Where `folds` are named, only
    their models predict, into a folder of their own, without a rule, which is of all folds, and
    without the patients that all of these models trained on.
    Raises InputError where the cohort does not fit the run, or differs from it if `strict`.
    """
    trained_on = {member: check_run(member, config, folds) for member, config in members.items()}
    folds = named_folds(run, folds)
    rule = None if folds else read_rule(run)
    cohorts = {member: load_cohort(config.data) for member, config in members.items()}
    first, *_ = cohorts.values()
    # Whether the cohort is the one that every member was trained on.
    own = all(prediction_folder.is_own_cohort(trained_on[each], config.data, cohorts[each],
                                              patients)
              for each, config in members.items())  # fmt: skip
    digest = digest_cohort(members, first)
    out = prediction_folder.choose_folder(run, out, digest, own, folds)
    shift = CohortShift()
    chosen, known = choose_patients(members, cohorts, trained_on, patients, allow_unknown_encoder)
    probabilities = mean_over_members(members, chosen, trained_on, shift)
    probabilities = without_trained(probabilities, known, own)
    shift.report(probabilities, strict)
    outside = shift.outside(probabilities)
    predictions = prediction_folder.summarize(probabilities, outside)
    if rule is not None:
        scores = new_scores(probabilities, outside)
        predictions["triage"] = apply_rule(run, rule, scores).to_list()
    unlabelled = int((first.table["label"].loc[probabilities.index] < 0).sum())
    source = prediction_folder.made_from(run, members, digest, own, folds)

    def record(digest: str) -> None:
        if unlabelled:  # before the files: every use is recorded, wherever a kill strikes
            test_set_log.record(run, "predict", digest, unlabelled, folds=source.get("folds"))

    prediction_folder.write(out, predictions, header, source, record)
    return predictions


def digest_cohort(members: Mapping[Path, TrainConfig], cohort: Cohort) -> str:
    """Return `cohort_digest` of what the members read: images where one of them uses any."""
    with_images = [each.data for each in members.values() if uses_images(each.model)]
    return prediction_folder.cohort_digest(cohort, *with_images[:1])


def choose_patients(
    members: Mapping[Path, TrainConfig], cohorts: Mapping[Path, Cohort],
    trained_on: Mapping[Path, Mapping[int, TrainedOn]], patients: str,
    allow_unknown_encoder: bool,
) -> tuple[dict[Path, Cohort], KnownTo]:  # fmt: skip
    """Return the patients to predict as each member reads them, and who is known to any member."""
    found: dict[Path, Cohort] = {}
    known: list[KnownTo] = []
    for member, config in members.items():
        with_images = uses_images(config.model)
        chosen = _choose(cohorts[member], patients, trained_on[member], shown=not found)
        first = next(iter(found.values()), chosen)
        if list(chosen.table.index) != list(first.table.index):
            others = f"other patients than those of {next(iter(members))}"
            raise InputError(f"run {member}: its data settings find {others}. Give data.root=DIR.")
        if not found and with_images:
            chosen.print_unused()
        check_feature_file(member, config, trained_on[member], allow_unknown_encoder)
        known.append(known_to(trained_on[member], config.data, chosen, with_images))
        found[member] = chosen
    return found, reduce(or_, known)


def check_feature_file(
    run: Path, config: TrainConfig, trained_on: Mapping[int, TrainedOn],
    allow_unknown: bool = False,
) -> None:  # fmt: skip
    """Raise InputError unless a file's vectors are of the encoder that the run learned from."""
    if uses_images(config.model) and (file := config.data.feature_file) is not None:
        encoder = read_encoder(file) if config.data.features.path else None
        check_encoder(run, next(iter(trained_on.values())), file, encoder, allow_unknown)


def mean_over_members(
    members: Mapping[Path, TrainConfig], chosen: Mapping[Path, Cohort],
    trained_on: Mapping[Path, Mapping[int, TrainedOn]], shift: CohortShift,
) -> pd.DataFrame:  # fmt: skip
    """Return `fold_probabilities`, of several members that of the mean logit in each fold."""
    tables = [
        fold_probabilities(member, config, chosen[member], list(trained_on[member]), shift)
        for member, config in members.items()
    ]
    probabilities = tables[0]
    if len(tables) > 1:
        averaged = mean_probability(tables)
        probabilities = pd.DataFrame(averaged, probabilities.index, probabilities.columns)
    return probabilities


def check_run(run: Path, config: TrainConfig, folds: Sequence[int] = ()) -> dict[int, TrainedOn]:
    """Return what each fold, or of `folds`, was trained on; InputError where one cannot predict."""
    check_features(config)
    named = named_folds(run, folds)
    folds = named or all_folds(run)
    if unfinished := describe_unfinished(run, folds):
        raise InputError(f"run {run}: {unfinished}; or predict by finished ones alone: folds=[...]")
    whole = not named or (run / SUMS).exists()
    for folder in [run] if whole else [fold_folder(run, fold) for fold in folds]:
        verify_checksums(folder)  # loading a checkpoint or an encoder verifies that
    changed = {change.what for _, change in read_changes(read_environment(run))}
    if inputs := sorted(changed & _input_keys(config)):
        raise InputError(
            f"run {run}: {', '.join(inputs)} changed while it was trained, so its folds have "
            f"different inputs and cannot predict together. Train a new run."
        )
    trained_on = check_folds(run)
    return {fold: trained_on[fold] for fold in folds}


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
    run: Path, config: TrainConfig, cohort: Cohort, folds: list[int], shift: CohortShift
) -> pd.DataFrame:
    """Return a row a patient, in the cohort's order, and a column a fold.

    `shift` is given what each model was trained on. Raises InputError where the cohort does not
    fit the run.
    """
    with_images = uses_images(config.model)
    inputs = model_inputs(cohort, config.data, uses_clinical(config.model), with_images)
    columns = {}
    for fold, checkpoint, trainer, bags, _ in open_models(run, config, cohort, folds):
        table, _ = checkpoint_predictions(checkpoint, fold_folder(run, fold), trainer, bags)
        shift.add(fold, inputs, checkpoint["BagDataModule"]["ranges"])
        columns[fold] = table.set_index("patient")["probability"]
    return pd.DataFrame(columns).loc[cohort.table.index]


def open_models(
    run: Path, config: TrainConfig, cohort: Cohort, folds: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any], pl.Trainer, PatientBags, str]]:
    """Yield each fold, its checkpoint, a trainer, the cohort's bags, and the key of their content.

    Raises InputError where the cohort does not fit the run.
    """
    configure_torch(resolve_hardware(config.trainer))
    with_images = uses_images(config.model)
    pretrain = config.pretrain if PRETRAINED in config.data.features.blocks else None
    store: Store | None = None
    key = ""
    for fold in folds:
        if with_images and (store is None or pretrain):
            encoder = load_run_encoder(run, fold, pretrain) if pretrain else None
            store, key = open_instance_store(config.data, cohort.images, encoder)
        folder = fold_folder(run, fold)
        path = reported_checkpoint(folder, selected_epoch(run, fold))
        checkpoint = load_checkpoint(path, FoldCheckpoint)
        bags = _bags(checkpoint["BagDataModule"], run, fold, config, cohort, store)
        trainer = make_trainer(config.trainer, folder, logger=False, callbacks=[])
        yield fold, checkpoint, trainer, bags, key


def read_model(checkpoint: dict[str, Any], run: Path, fold: int) -> MILModel:
    """Return the model of a fold's checkpoint, in evaluation mode. Raises InputError."""
    return load_module(checkpoint, fold_folder(run, fold), BagClassifier).model.eval()


def _bags(
    state: dict[str, Any], run: Path, fold: int, config: TrainConfig, cohort: Cohort,
    store: Store | None,
) -> PatientBags:  # fmt: skip
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


def _choose(
    cohort: Cohort, patients: str, trained_on: Mapping[int, TrainedOn], shown: bool
) -> Cohort:
    """Return the patients to predict, without those that every model has trained on, by id."""
    chosen = prediction_folder.choose(cohort, patients)
    ids = chosen.table.index
    left = ids[[any(each not in fold.patients for fold in trained_on.values()) for each in ids]]
    if less := len(ids) - len(left):
        why = f"every model of folds {[*trained_on]} was trained on patients of their ids"
        line = f"{less} of these {len(ids)} patients are left out: {why}"
        if left.empty:
            raise InputError(f"{line}. Name other folds.")
        if shown:
            print(line)
    return chosen.subset(left)
