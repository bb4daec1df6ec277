"""One job: cross-validate one configuration into its run folder, skipping what is done."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch

from lymphoml.core.cores import available_cores
from lymphoml.core.files import write_csv, write_json
from lymphoml.core.progress import ProgressBar, progress_bar
from lymphoml.core.seeding import keyed_seed
from lymphoml.data.datamodule import BagDataModule
from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.pooled import pool
from lymphoml.runs import provenance, run_folder
from lymphoml.runs.aggregate import complete
from lymphoml.runs.fold_errors import FailureContextCallback, FoldErrorPolicy
from lymphoml.runs.fold_lock import fold_lock
from lymphoml.runs.prepare import RunContext, fold_store, new_module, prepare
from lymphoml.training import hardware
from lymphoml.training.callbacks import FoldProgress, History, KeyedSeeds, Patience
from lymphoml.training.checkpoint import (
    PREVIOUS,
    AtomicCheckpointIO,
    SaveEpoch,
    find_resume_checkpoint,
    load_checkpoint,
    reported_checkpoint,
)
from lymphoml.training.loggers import Tracker
from lymphoml.training.predict_fold import checkpoint_predictions
from lymphoml.training.trainer import make_trainer
from lymphoml.training.weight_averaging import weight_averaging


def cross_validate(
    config: dict[str, Any],
    folder: Path,
    words: Sequence[str] = (),
    jobs: int = 1,
    sweep: bool = False,
) -> float:
    """Train the folds that `config["fold"]` asks for and that are not done; `all` or a number.

    The last fold to finish, by whichever process, completes the run: `predictions.csv`,
    `metrics.json`. Returns the balanced accuracy pooled over the run's out-of-fold predictions,
    or, while folds are missing, over those of the folds asked for. `words` are the command line's,
    for the record; `jobs` share the machine, this one included; `sweep` says that the words are
    other jobs' as well, so one of them may mean nothing here. Whatever can be refused is, before
    the folder is made. Raises RuntimeFailure, at the end, where folds failed and `on_fold_error` says to
    go on with the others.
    """
    if (threads := run_folder.stored_threads(folder)) and threads <= available_cores():
        config["trainer"]["num_threads"] = config["trainer"]["num_threads"] or threads
    tracker = Tracker(config, folder, folder.name)
    prepared = prepare(config, folder, jobs, () if sweep else words)
    device_name = hardware.device_name(config["trainer"]["accelerator"])
    environment = provenance.describe(
        prepared.fingerprint, words, device_name, prepared.settings, torch.get_num_threads(),
        prepared.weights,
    )  # fmt: skip
    run_folder.claim(folder, config, environment, prepared.chunk_size, prepared.asked)
    run_folder.write_or_verify_folds(folder, prepared.folds, config["data"]["folds_csv"])
    if not all(run_folder.is_done(folder, fold) for fold in prepared.asked):
        chunk = config["trainer"]["encoder_chunk_size"]
        chunks = f", {chunk} images at a time" if chunk else ""
        print(f"{folder}: {device_name}, {prepared.settings}{chunks}", flush=True)

    with tracker:
        options, epochs = config["trainer"], config["trainer"]["max_epochs"]
        errors = FoldErrorPolicy(config["on_fold_error"])
        with progress_bar(
            "", len(prepared.asked) * epochs, "epochs", options["enable_progress_bar"]
        ) as bar:
            for fold in prepared.asked:
                with errors.fold(fold), fold_lock(folder, fold) as path:
                    if run_folder.is_done(folder, fold):
                        bar.advance(epochs)
                    else:
                        # What it told rested on this fold as well.
                        (folder / "metrics.json").unlink(missing_ok=True)
                        train_fold(config, path, fold, prepared, tracker, bar)
        errors.close()
        return complete(config, folder, prepared, tracker)


def train_fold(
    config: dict[str, Any],
    path: Path,
    fold: int,
    prepared: RunContext,
    tracker: Tracker,
    bar: ProgressBar,
) -> None:
    """A fresh model on the fold's training patients, or the rest of an interrupted one's epochs."""
    options, cohort, folds = config["trainer"], prepared.cohort, prepared.folds
    encoder = None if prepared.encoders is None else prepared.encoders.store(fold)
    store = fold_store(config, prepared, fold, encoder)
    pl.seed_everything(keyed_seed(config["seed"], fold, "weights") % 2**32, verbose=False)
    bags = BagDataModule(config["data"], cohort, store, folds, fold, config["seed"])
    weight = _pos_weight(config["loss"]["pos_weight"], cohort.table.loc[bags.train_patients])
    module = new_module(
        config,
        len(bags.clinical.names),
        None if encoder is None else encoder.path,
        pos_weight=weight,
        chunk_size=options["encoder_chunk_size"],
        label_smoothing=config["loss"]["label_smoothing"],
    )
    history = History(path / "history.csv")
    steps = -(-len(bags.train_patients) // config["data"]["batch_size"])
    average = weight_averaging(config["weight_averaging"], options["max_epochs"], steps)
    save = SaveEpoch(path, bool(bags.inner_patients), averages=average is not None)
    callbacks: list[pl.Callback] = [
        KeyedSeeds(config["seed"], fold),
        history,
        FoldProgress(bar, fold, options["max_epochs"]),
        save,
        where := FailureContextCallback(bags),
    ]
    if average is not None:
        callbacks.append(average)
    if options["patience"] is not None:
        callbacks.append(Patience(options["patience"], options["check_val_every_n_epoch"]))
    start = find_resume_checkpoint(path, fold)
    if start.notice:
        bar.print(start.notice)
    with tracker.fold(fold) as loggers:
        trainer = make_trainer(options, path, logger=loggers, callbacks=callbacks)
        with where.located():
            trainer.fit(module, datamodule=bags, ckpt_path=start.checkpoint, weights_only=True)
        reported = load_checkpoint(reported_checkpoint(path, save.selected_epoch))
        with where.located():
            predictions, of_images = checkpoint_predictions(reported, path, trainer, bags)
        predictions.insert(1, "fold", fold)
        predictions.insert(2, "label", cohort.table["label"].loc[predictions["patient"]].to_numpy())
        write_csv(path / "predictions.csv", predictions)
        write_csv(path / "instances.csv", of_images)
        score = score_fold(predictions["label"], predictions["probability"])
        tracker.log_fold(fold, predictions, score)
    accuracy = pool(predictions, 1, ["balanced_accuracy"])["balanced_accuracy"]
    last, chosen = len(history.rows), save.selected_epoch
    said_by = f"epoch {last}" if chosen is None else f"epoch {chosen + 1} of {last}, chosen"
    bar.print(
        f"{path}: balanced accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, "
        f"{accuracy['high']:.3f}] after {said_by}, {history.seconds:.0f} s"
    )
    write_json(
        path / "done.json",
        {
            "fold": fold,
            "epochs": len(history.rows),
            "selected_epoch": save.selected_epoch,
            "seconds": round(history.seconds, 1),
        },
    )
    AtomicCheckpointIO().remove_checkpoint(path / PREVIOUS)  # nothing goes on from here


def _pos_weight(asked: float | str | None, train: pd.DataFrame) -> float | None:
    if asked != "balanced":
        return asked  # type: ignore[return-value]
    tumoral = int((train["label"] == 1).sum())
    return (len(train) - tumoral) / tumoral
