"""One job: cross-validate one configuration into its run folder, skipping what is done."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from filelock import FileLock

from lymphoml import compute, runs
from lymphoml import environment as environments
from lymphoml.baseline import clinical_baseline
from lymphoml.build import uses_images
from lymphoml.callbacks import (
    Bar,
    FoldProgress,
    History,
    KeyedSeeds,
    Patience,
    progress_bar,
)
from lymphoml.checkpoint import LAST, SaveEpoch
from lymphoml.checks import check
from lymphoml.data.cohort import Cohort, read_cohort
from lymphoml.data.datamodule import BagDataModule
from lymphoml.data.folds import make_folds, read_folds
from lymphoml.data.images import ImageStore, read_images
from lymphoml.errors import InputError
from lymphoml.evaluation.metrics import score_fold, summarise
from lymphoml.files import write_json
from lymphoml.module import BagClassifier
from lymphoml.prediction import checkpoint_predictions
from lymphoml.seeding import keyed_seed
from lymphoml.tracking import Tracker
from lymphoml.trainer import make_trainer


def cross_validate(config: dict[str, Any], folder: Path, words: Sequence[str] = ()) -> float:
    """Train the folds that `config["fold"]` asks for and that are not done; `all` or a number.

    The last fold to finish, by whichever process, completes the run: `predictions.csv`,
    `metrics.json`. Returns the balanced accuracy pooled over the run's out-of-fold predictions,
    or, while folds are missing, over those of the folds asked for. `words` are the command line's,
    for the record. Whatever can be refused is, before the folder is made.
    """
    check(config)
    data, options = config["data"], config["trainer"]
    asked = _folds_asked(config["fold"], data["folds"] * data["repeats"])
    # What `auto` means here counts as configured: a run never mixes the arithmetic of two machines.
    options["precision"] = compute.precision(options["precision"], options["accelerator"])
    threads = compute.set_threads(options["threads"])
    _check_builds(config)
    cohort = _labelled(data)
    folds = _folds(config, cohort, folder)
    store, fingerprint = _open_images(config, cohort)
    for fold in asked:
        BagDataModule(data, cohort, None, folds, fold, config["seed"])  # for its errors
    environment = environments.describe(
        fingerprint,
        words,
        compute.hardware(options["accelerator"]),
        f"precision {options['precision']}, {threads} threads, channels last",
    )
    runs.claim(folder, config, environment)
    runs.settle_folds(folder, folds, data["fold_file"])

    with Tracker(config, folder, folder.name) as tracker:
        epochs = options["max_epochs"]
        with progress_bar(options["progress"], len(asked) * epochs) as bar:
            for fold in asked:
                with runs.fold_lock(folder, fold) as path:
                    if runs.is_done(folder, fold):
                        bar.skip(epochs)
                    else:
                        train_fold(config, path, fold, cohort, store, folds, tracker, bar)
        return _finish(config, folder, cohort, folds, asked, tracker)


def train_fold(
    config: dict[str, Any],
    path: Path,
    fold: int,
    cohort: Cohort,
    store: ImageStore | None,
    folds: pd.DataFrame,
    tracker: Tracker,
    bar: Bar,
) -> None:
    """A fresh model on the fold's training patients, or the rest of an interrupted one's epochs."""
    options = config["trainer"]
    pl.seed_everything(keyed_seed(config["seed"], fold, "weights") % 2**32, verbose=False)
    bags = BagDataModule(config["data"], cohort, store, folds, fold, config["seed"])
    weight = _pos_weight(config["pos_weight"], cohort.table.loc[bags.train_patients])
    module = _module(config, len(bags.clinical.names), weight)
    history = History(path / "history.csv")
    save = SaveEpoch(path, select=bool(bags.inner_patients))
    callbacks: list[pl.Callback] = [
        KeyedSeeds(config["seed"], fold),
        history,
        FoldProgress(bar, fold, options["max_epochs"]),
        save,
    ]
    if options["patience"] is not None:
        callbacks.append(Patience(options["patience"]))
    last = path / LAST
    with tracker.fold(fold) as loggers:
        trainer = make_trainer(options, path, logger=loggers, callbacks=callbacks)
        try:
            trainer.fit(
                module,
                datamodule=bags,
                ckpt_path=last if last.exists() else None,
                weights_only=True,
            )
        except SystemExit:  # what Lightning makes of Ctrl-C
            if trainer.interrupted:
                raise KeyboardInterrupt from None
            raise
        predictions = checkpoint_predictions(path, trainer, bags)
        predictions.insert(1, "fold", fold)
        predictions.insert(2, "label", cohort.table["label"].loc[predictions["patient"]].to_numpy())
        runs.write_table(path / "predictions.csv", predictions)
        score = score_fold(predictions["label"], predictions["probability"])
        tracker.log_fold(fold, predictions, score)
    write_json(
        path / "done.json",
        {
            "fold": fold,
            "epochs": len(history.rows),
            "selected_epoch": save.selected_epoch,
            "seconds": round(history.seconds, 1),
        },
    )


def _finish(
    config: dict[str, Any],
    folder: Path,
    cohort: Cohort,
    folds: pd.DataFrame,
    asked: list[int],
    tracker: Tracker,
) -> float:
    every = sorted(folds["fold"].unique().tolist())
    per_repeat = config["data"]["folds"]
    if not all(runs.is_done(folder, fold) for fold in every):
        part = runs.read_predictions(folder, asked)
        return score_fold(part["label"], part["probability"])["balanced_accuracy"]
    with FileLock(folder / ".lock"):
        if not (folder / "metrics.json").exists():
            predictions = runs.read_predictions(folder, every)
            metrics = summarise(predictions, runs.read_histories(folder, every), per_repeat)
            metrics["baseline"]["clinical"] = clinical_baseline(config, cohort, folds)
            runs.write_table(folder / "predictions.csv", predictions)
            tracker.log_cross_validation(metrics)
            write_json(folder / "metrics.json", metrics)
    return json.loads((folder / "metrics.json").read_text())["balanced_accuracy"]["value"]


def _labelled(data: dict[str, Any]) -> Cohort:
    cohort = read_cohort(data).labelled
    if cohort.table.empty:
        raise InputError(
            f"data.root={data['root']}: no patient has a label; data.label_column="
            f"{data['label_column']} must name the column that holds them"
        )
    return cohort


def _folds(config: dict[str, Any], cohort: Cohort, folder: Path) -> pd.DataFrame:
    """The user's folds, the run's if it has been begun, or new ones."""
    data, begun = config["data"], folder / "folds.csv"
    given = Path(data["fold_file"]).expanduser() if data["fold_file"] else None
    if given or begun.exists():
        return read_folds(given or begun, cohort.table, data["folds"], data["repeats"])
    return make_folds(cohort.table, data["folds"], data["repeats"], config["seed"])


def _open_images(config: dict[str, Any], cohort: Cohort) -> tuple[ImageStore | None, str]:
    """The decoded images, None where the model looks at none, and the cohort's fingerprint."""
    table = cohort.fingerprint()
    if not uses_images(config["model"]):
        return None, table
    store, key = read_images(cohort.images, config["data"])
    height, width = store.size
    if config["data"]["rotate"] and height != width:
        raise InputError(
            f"data.rotate needs square images, these are {width} x {height}; set data.crop"
        )
    return store, f"{table[:16]}-{key[:16]}"


def _module(
    config: dict[str, Any], clinical_dim: int, pos_weight: float | None = None
) -> BagClassifier:
    return BagClassifier(
        config["model"], config["optim"], config["scheduler"], clinical_dim, pos_weight
    )


def _check_builds(config: dict[str, Any]) -> None:
    """Build everything once for its errors, which would otherwise come after the folder is made."""
    _module(config, clinical_dim=1).configure_optimizers()
    make_trainer(config["trainer"], Path(), logger=False, callbacks=[])


def _pos_weight(asked: float | str | None, train: pd.DataFrame) -> float | None:
    if asked != "balanced":
        return asked  # type: ignore[return-value]
    tumoral = int((train["label"] == 1).sum())
    return (len(train) - tumoral) / tumoral


def _folds_asked(asked: int | str, count: int) -> list[int]:
    if asked == "all":
        return list(range(count))
    if type(asked) is int and 0 <= asked < count:
        return [asked]
    raise InputError(f"fold={asked}: allowed are all and 0 to {count - 1}")
