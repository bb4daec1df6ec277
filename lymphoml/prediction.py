"""New patients through a run's folds: the mean of their probabilities, and how far they differ."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml import ledger, runs
from lymphoml.build import uses_images
from lymphoml.checkpoint import load_checkpoint, reported_checkpoint
from lymphoml.checkpoint_content import check_complete
from lymphoml.checks import check
from lymphoml.containment import refuse_links
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort, read_cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.data.folds import split
from lymphoml.data.images import ImageStore
from lymphoml.data.rows import RowStore, RowView
from lymphoml.drift import fingerprints
from lymphoml.errors import InputError
from lymphoml.features.computed import PRETRAINED
from lymphoml.files import csv_text, write_text
from lymphoml.inference import checkpoint_predictions
from lymphoml.instances import check_rows, open_instances, rows_wanted
from lymphoml.machine import compute
from lymphoml.pretraining.carried import carried_by
from lymphoml.submission import write_submission
from lymphoml.trainer import make_trainer
from lymphoml.triage import apply_rule, read_rule


def predict(
    run: Path, config: dict[str, Any], out: Path, patients: str, header: tuple[str, str]
) -> pd.DataFrame:
    """Write `predictions.csv` and `submission.csv` into `out`, a row a patient of the cohort.

    `config` is the run's own, but for where the cohort lies and what the machine can do;
    `patients` is `unlabelled` or `all`. Columns: patient, probability (mean over folds),
    standard_deviation (over folds), label (1 where the probability is above 0.5), and, where the
    run has a rule-out rule, triage (`spare` or `test`, by `lymphoml.triage.apply_rule`). A patient
    of the run's own folds is predicted by the models that did not train on them, and by no other.
    Where anybody has no label, the run's ledger counts it.
    Raises InputError where the cohort does not fit the run.
    """
    refuse_links(run)
    check(config)
    check_rows(config)
    folds = runs.read_table(run / "folds.csv")
    numbers = sorted(folds["fold"].unique().tolist())
    for fold in numbers:
        if not runs.is_done(run, fold):
            raise InputError(f"run {run}: fold {fold} is not finished; give its command again")
    rule = read_rule(run)
    compute.settle(config["trainer"])
    everybody = read_cohort(config["data"])
    cohort = _choose(everybody, patients)
    ids = list(cohort.table.index)
    uses = uses_images(config["model"])
    pretrains = PRETRAINED in rows_wanted(config["model"])
    store, columns = None, {}
    for fold in numbers:
        if uses and (store is None or (pretrains and config["pretrain"]["scope"] == "fold")):
            encoder = carried_by(run, fold, config["pretrain"]) if pretrains else None
            store, _ = open_instances(config["model"], config["data"], cohort.images, encoder)
        path = runs.fold_folder(run, fold)
        reported = reported_checkpoint(path, runs.selected_epoch(run, fold))
        checkpoint = load_checkpoint(reported)
        try:
            check_complete(checkpoint)
        except ValueError as error:
            raise InputError(f"checkpoint {reported}: {error}; train the fold again") from None
        bags = _bags(checkpoint["BagDataModule"], run, fold, config, cohort, store, ids)
        trainer = make_trainer(config["trainer"], path, logger=False, callbacks=[])
        table, _ = checkpoint_predictions(checkpoint, path, trainer, bags)
        columns[fold] = table.set_index("patient")["probability"]
    probabilities = pd.DataFrame(columns)
    if _is_own_cohort(run, everybody):
        _leave_trained_out(probabilities, folds, config["data"]["folds"])
    mean = probabilities.mean(axis=1)
    predictions = pd.DataFrame(
        {
            "patient": ids,
            "probability": mean.loc[ids].to_numpy(),
            "standard_deviation": probabilities.std(axis=1, ddof=0).loc[ids].to_numpy(),
            "label": (mean.loc[ids] > 0.5).astype(int).to_numpy(),
        }
    )
    if rule is not None:
        predictions["triage"] = apply_rule(run, rule, probabilities.loc[ids]).to_list()
    content = csv_text(out / "predictions.csv", predictions)
    if unknown := int((cohort.table["label"] < 0).sum()):
        # Before the files: nobody is predicted unrecorded, wherever a kill strikes.
        digest = sha256(content.encode()).hexdigest()
        ledger.record(run, "predict", digest, unknown, transductive=runs.transductive(run))
    write_submission(predictions, ids, out / "submission.csv", header)
    write_text(out / "predictions.csv", content)
    return predictions


def _is_own_cohort(run: Path, cohort: Cohort) -> bool:
    table = cohort.labelled.fingerprint()[:16]
    return any(known.startswith(table) for known in fingerprints(runs.read_environment(run)))


def _leave_trained_out(probabilities: pd.DataFrame, folds: pd.DataFrame, per_repeat: int) -> None:
    """Blank what each fold's model says of the patients that it learned from."""
    for fold in folds["fold"].unique():
        trained, _ = split(folds, fold, per_repeat)
        probabilities.loc[probabilities.index.isin(trained), fold] = float("nan")


def _bags(
    state: dict[str, Any],
    run: Path,
    fold: int,
    config: dict[str, Any],
    cohort: Cohort,
    store: ImageStore | RowStore | None,
    ids: list[str],
) -> PatientBags:
    """The cohort's bags, scaled as the fold's data module `state` says; InputError if unlike it."""
    size = list(store.size) if isinstance(store, ImageStore) else None
    rows = RowView(**state["rows"]) if state.get("rows") else None
    for what, trained, given in (
        ("clinical columns", state["schema"], cohort.schema),
        ("image size after crop and resize", state["image_size"], size),
        ("features", rows and rows.names, store.names if isinstance(store, RowStore) else None),
    ):
        if trained != given:
            raise InputError(
                f"cohort {config['data']['root']} has other {what} than {run} was trained "
                f"on: {given} against {trained}; predict with the data settings of the run"
            )
    clinical = ClinicalEncoder.from_state(state["clinical"])
    return PatientBags(config["data"], cohort, store, ids, clinical, config["seed"], fold, rows)


def _choose(cohort: Cohort, patients: str) -> Cohort:
    if patients not in ("unlabelled", "all"):
        raise InputError(f"patients={patients}: allowed are unlabelled and all")
    chosen = cohort if patients == "all" else cohort.unlabelled
    if not len(chosen.table):
        raise InputError(
            f"cohort {cohort.name}: every patient has a label; patients=all predicts them all"
        )
    return chosen
