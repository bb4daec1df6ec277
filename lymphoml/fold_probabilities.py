"""What the model of each of a run's folds says of a cohort's patients."""

from pathlib import Path
from typing import Any

import pandas as pd

from lymphoml import drift, runs
from lymphoml.build import uses_images
from lymphoml.checkpoint import load_checkpoint, reported_checkpoint
from lymphoml.checkpoint_content import check_complete
from lymphoml.checks import check
from lymphoml.containment import refuse_links
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import Cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.data.images import ImageStore
from lymphoml.data.rows import RowStore, RowView
from lymphoml.errors import InputError, quoted
from lymphoml.features.computed import PRETRAINED, UNTRAINED
from lymphoml.inference import checkpoint_predictions
from lymphoml.instances import check_rows, open_instances, rows_wanted
from lymphoml.machine import compute
from lymphoml.pretraining.carried import carried_by
from lymphoml.pretraining.settings import INPUTS
from lymphoml.run_tables import read_columns
from lymphoml.trainer import make_trainer

# What a run began with that was begun before there were such settings.
YOUNGER = {"data.tta": 1, "model.encoder.seed": 0}


def check_run(run: Path, config: dict[str, Any]) -> list[int]:
    """The folds of a run that can predict with `config`; InputError where one is not finished."""
    refuse_links(run)
    check(config)
    check_rows(config)
    table = read_columns(run / "folds.csv", ("patient", "fold"))
    folds = sorted(table["fold"].unique().tolist())
    for fold in folds:
        if not runs.is_done(run, fold):
            raise InputError(f"run {run}: fold {fold} is not finished; give its command again")
    sessions = runs.read_environment(run).get(drift.KEY, [])
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
    rows, looks = rows_wanted(config["model"]), {"data.eval_max_instances"}
    if not rows:
        looks |= {f"data.{key}" for key in (*INPUTS, "tta")}
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
    compute.settle(config["trainer"])
    ids = list(cohort.table.index)
    uses = uses_images(config["model"])
    pretrains = PRETRAINED in rows_wanted(config["model"])
    store, columns = None, {}
    for fold in folds:
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
    return pd.DataFrame(columns).loc[ids]


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
                f"on: {quoted(str(given), 200)} against {quoted(str(trained), 200)}; predict with "
                f"the data settings of the run"
            )
    clinical = ClinicalEncoder.from_state(state["clinical"])
    return PatientBags(config["data"], cohort, store, ids, clinical, config["seed"], fold, rows)
