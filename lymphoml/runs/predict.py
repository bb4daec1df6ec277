"""New patients through a run's folds: the mean of their probabilities, and how far they differ."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml.core.errors import InputError, quoted
from lymphoml.core.files import csv_text, write_text
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.data.feature_store import FeatureScaler, FeatureStore
from lymphoml.data.folds import split
from lymphoml.data.image_store import ImageStore
from lymphoml.features.extractors import PRETRAINED, UNTRAINED
from lymphoml.features.instance_store import check_features, open_instance_store, rows_wanted
from lymphoml.features.pretraining.settings import INPUTS
from lymphoml.models.build import uses_images
from lymphoml.runs import provenance, run_folder, test_set_log
from lymphoml.runs.encoders import load_run_encoder
from lymphoml.runs.ensemble import mean_probability
from lymphoml.runs.provenance import fingerprints
from lymphoml.runs.submission import write_submission
from lymphoml.runs.tables import read_predictions_csv
from lymphoml.runs.triage_rule import apply_rule, read_rule
from lymphoml.training import hardware
from lymphoml.training.checkpoint import load_checkpoint, reported_checkpoint
from lymphoml.training.checkpoint_schema import FoldCheckpoint
from lymphoml.training.predict_fold import checkpoint_predictions
from lymphoml.training.trainer import make_trainer

# What the model of each of a run's folds says of a cohort's patients.

# What a run began with that was begun before there were such settings.
YOUNGER = {"data.eval_tta": 1, "model.encoder.seed": 0}


def check_run(run: Path, config: dict[str, Any]) -> list[int]:
    """The folds of a run that can predict with `config`; InputError where one is not finished."""
    reject_symlinks(run)
    check_features(config)
    table = read_predictions_csv(run / "folds.csv", ("patient", "fold"))
    folds = sorted(table["fold"].unique().tolist())
    for fold in folds:
        if not run_folder.is_done(run, fold):
            raise InputError(f"run {run}: fold {fold} is not finished; give its command again")
    sessions = run_folder.read_environment(run).get(provenance.KEY, [])
    changed = {
        change["what"]
        for session in sessions
        for change in session["changes"]
        if change["before"] is not None or change["now"] != YOUNGER.get(change["what"])
    }
    if seen := sorted(changed & _looks(config)):
        raise InputError(
            f"run {run}: {', '.join(seen)} changed while it was trained, so its folds look at "
            f"patients differently and cannot predict together; train it anew"
        )
    return folds


def _looks(config: dict[str, Any]) -> set[str]:
    """The settings that say how a fold's model looks at a patient."""
    if not uses_images(config["model"]):
        return set()
    rows, looks = rows_wanted(config["model"]), {"data.eval_bag_size"}
    if not rows:
        looks |= {f"data.{key}" for key in (*INPUTS, "eval_tta")}
    if PRETRAINED in rows:
        looks |= {f"pretrain.{key}" for key in INPUTS}
    if set(rows) & set(UNTRAINED):
        looks.add("model.encoder.seed")  # one network's columns have the same names for every seed
    return looks


def fold_probabilities(
    run: Path, config: dict[str, Any], cohort: Cohort, folds: list[int]
) -> pd.DataFrame:
    """A row a patient, in the cohort's order, and a column a fold.

    Raises InputError where the cohort does not fit the run.
    """
    hardware.configure_torch(hardware.resolve_hardware(config["trainer"]))
    ids = list(cohort.table.index)
    uses = uses_images(config["model"])
    pretrains = PRETRAINED in rows_wanted(config["model"])
    store, columns = None, {}
    for fold in folds:
        if uses and (store is None or pretrains):
            encoder = load_run_encoder(run, fold, config["pretrain"]) if pretrains else None
            store, _ = open_instance_store(config["model"], config["data"], cohort.images, encoder)
        path = run_folder.fold_folder(run, fold)
        reported = reported_checkpoint(path, run_folder.selected_epoch(run, fold))
        checkpoint = load_checkpoint(reported, FoldCheckpoint)
        bags = _bags(checkpoint["BagDataModule"], run, fold, config, cohort, store, ids)
        trainer = make_trainer(config["trainer"], path, logger=False, callbacks=[])
        table, _ = checkpoint_predictions(checkpoint, path, trainer, bags)
        columns[fold] = table.set_index("patient")["probability"]
    return pd.DataFrame(columns).loc[ids]


def _bags(
    state: dict[str, Any],
    run: Path,
    fold: int,
    config: dict[str, Any],
    cohort: Cohort,
    store: ImageStore | FeatureStore | None,
    ids: list[str],
) -> PatientBags:
    """The cohort's bags, scaled as the fold's data module `state` says; InputError if unlike it."""
    size = list(store.size) if isinstance(store, ImageStore) else None
    features = FeatureScaler(**state["features"]) if state["features"] else None
    for what, trained, given in (
        ("clinical columns", state["schema"], cohort.schema),
        ("image size after crop and resize", state["image_size"], size),
        (
            "features",
            features and features.names,
            store.names if isinstance(store, FeatureStore) else None,
        ),
    ):
        if trained != given:
            raise InputError(
                f"cohort {config['data']['root']} has other {what} than {run} was trained "
                f"on: {quoted(str(given), 200)} against {quoted(str(trained), 200)}; predict with "
                f"the data settings of the run"
            )
    clinical = ClinicalEncoder.from_state(state["clinical"])
    return PatientBags(config["data"], cohort, store, ids, clinical, config["seed"], fold, features)


def predict(
    run: Path,
    members: Mapping[Path, dict[str, Any]],
    out: Path,
    patients: str,
    header: tuple[str, str],
) -> pd.DataFrame:
    """Write `predictions.csv` and `submission.csv` into `out`, a row a patient of the cohort.

    `members` are the runs whose models speak for `run`, itself or an ensemble's (`resolve_members`),
    each with its own configuration, but for where the cohort lies and what the machine can do;
    `patients` is `unlabelled` or `all`. Columns: patient, probability (mean over folds; in each
    fold that of the members' mean logit), standard_deviation (over folds, blank where one model
    spoke), label (1 where the probability is above 0.5), and, where the run has a rule-out rule,
    triage (`rule_out` or `test`, by `lymphoml.runs.triage_rule.apply_rule`). Who is known to the run, by id or
    as the person suspected behind another, is predicted by the models that did not train on that
    person, and by no other; where the table is not the run's, or the id is new, that is told.
    Where anybody has no label, the run's ledger counts it. Raises InputError where the cohort does
    not fit the run.
    """
    reject_symlinks(run)
    numbers = {member: check_run(member, config) for member, config in members.items()}
    rule = read_rule(run)
    said: list[pd.DataFrame] = []
    own = True
    for member, config in members.items():
        everybody = load_cohort(config["data"])
        own &= _is_own_cohort(member, everybody)
        cohort = _choose(everybody, patients)
        ids = list(cohort.table.index)
        if said and ids != list(said[0].index):
            raise InputError(
                f"run {member}: its data settings find other patients than those of "
                f"{next(iter(members))}; give data.root=DIR"
            )
        said.append(fold_probabilities(member, config, cohort, numbers[member]))
    probabilities = said[0]
    if len(said) > 1:
        probabilities = pd.DataFrame(mean_probability(said), ids, probabilities.columns)
    folds = read_predictions_csv(run / "folds.csv", ("patient", "fold"))
    known = sum(probabilities.index.isin(folds["patient"]))
    person = everybody.table["group"]
    if other := _leave_trained_out(probabilities, folds, config["data"]["folds"], person):
        print(
            f"{other} of these patients seem to be persons from whom the run learned under another "
            f"id (birth date and sex): each is predicted by the models that did not"
        )
    if known and not own:
        print(
            f"{known} of these patients have ids that the run learned from, in a table that is not "
            f"the run's: each is predicted by the models that did not learn from that id alone; "
            f"give other persons other ids"
        )
    mean, deviation = probabilities.mean(axis=1), probabilities.std(axis=1, ddof=0)
    predictions = pd.DataFrame(
        {
            "patient": ids,
            "probability": mean.to_numpy(),
            "standard_deviation": deviation.where(probabilities.count(axis=1) > 1).to_numpy(),
            "label": (mean > 0.5).astype(int).to_numpy(),
        }
    )
    if rule is not None:
        predictions["triage"] = apply_rule(run, rule, probabilities).to_list()
    content = csv_text(out / "predictions.csv", predictions)
    if unknown := int((cohort.table["label"] < 0).sum()):
        # Before the files: nobody is predicted unrecorded, wherever a kill strikes.
        digest = sha256(content.encode()).hexdigest()
        test_set_log.record(run, "predict", digest, unknown)
    write_submission(predictions, ids, out / "submission.csv", header)
    write_text(out / "predictions.csv", content)
    return predictions


def _is_own_cohort(run: Path, cohort: Cohort) -> bool:
    table = cohort.labelled.fingerprint()[:16]
    return any(known.startswith(table) for known in fingerprints(run_folder.read_environment(run)))


def _leave_trained_out(
    probabilities: pd.DataFrame, folds: pd.DataFrame, per_repeat: int, person: pd.Series
) -> int:
    """Blank what each fold's model says of whom it learned from; returns how many by another id.

    `person` numbers those of the whole cohort. Where all models learned from a person, all speak.
    """
    theirs = pd.DataFrame(False, probabilities.index, probabilities.columns)
    own = person[probabilities.index]
    for fold in folds["fold"].unique():
        trained, _ = split(folds, fold, per_repeat)
        probabilities.loc[probabilities.index.isin(trained), fold] = float("nan")
        theirs[fold] = own.isin(person[person.index.isin(trained)]).to_numpy()
    theirs[probabilities.index.isin(folds["patient"])] = False  # known by id: that decides
    theirs[theirs.all(axis=1)] = False
    probabilities[theirs] = float("nan")
    return int(theirs.any(axis=1).sum())


def _choose(cohort: Cohort, patients: str) -> Cohort:
    if patients not in ("unlabelled", "all"):
        raise InputError(f"patients={patients}: allowed are unlabelled and all")
    chosen = cohort if patients == "all" else cohort.unlabelled
    if not len(chosen.table):
        raise InputError(
            f"cohort {cohort.name}: every patient has a label; patients=all predicts them all"
        )
    return chosen
