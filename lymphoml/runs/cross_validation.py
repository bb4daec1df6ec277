"""Cross-validate one configuration into its run folder, skipping what is done."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytorch_lightning as pl

from lymphoml.core.files import write_csv, write_json
from lymphoml.core.progress import ProgressBar, progress_bar
from lymphoml.core.seeding import keyed_seed
from lymphoml.data.datamodule import BagDataModule
from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.pooled import pool
from lymphoml.runs.aggregate import aggregate_folds
from lymphoml.runs.fold_errors import FailureContextCallback, FoldErrorPolicy
from lymphoml.runs.fold_lock import fold_folder, fold_lock, is_done
from lymphoml.runs.prepare import RunContext, build_model, fold_store, prepare
from lymphoml.runs.provenance import software
from lymphoml.runs.run_folder import create_or_open_run, write_or_verify_folds
from lymphoml.runs.settings import TrainConfig
from lymphoml.training.callbacks import FoldProgress, History, KeyedSeeds, Patience
from lymphoml.training.checkpoint import (
    PREVIOUS,
    AtomicCheckpointIO,
    SaveEpoch,
    find_resume_checkpoint,
    load_checkpoint,
    reported_checkpoint,
)
from lymphoml.training.hardware import Resolved
from lymphoml.training.loggers import Tracker
from lymphoml.training.predict_fold import checkpoint_predictions
from lymphoml.training.trainer import make_trainer
from lymphoml.training.weight_averaging import weight_averaging


def cross_validate(
    config: TrainConfig,
    folder: Path,
    overrides: Sequence[str] = (),
    parallel_jobs: int = 1,
    sweep: bool = False,
) -> float:
    """Train the folds of `config.fold` that are not done; return the pooled balanced accuracy.

    The last fold to finish, by whichever process, completes the run: `predictions.csv`,
    `metrics.json`. While folds are missing the score is that of `config.fold`. `overrides` are the
    command line's, for the record, and those of a `sweep` may be other jobs' as well;
    `parallel_jobs` share the machine.

    Raises InputError before the folder is made, RuntimeFailure at the end where folds failed under
    `on_fold_error=skip`.
    """
    run = prepare(config, folder, parallel_jobs, () if sweep else overrides)
    tracker = Tracker(run.config, folder, folder.name)
    run = _open(run, overrides)
    folds, epochs = run.folds_to_train, config.trainer.max_epochs
    if not all(is_done(folder, fold) for fold in folds):
        chunk = run.resolved.encoder_chunk_size
        chunks = f", {chunk} images at a time" if chunk else ""
        print(f"{folder}: {run.resolved.device_name}, {run.resolved}{chunks}", flush=True)
    errors = FoldErrorPolicy(config.on_fold_error)
    with tracker:
        shown = config.trainer.enable_progress_bar
        with progress_bar("", len(folds) * epochs, "epochs", shown) as bar:
            for fold in folds:
                with errors.fold(fold), fold_lock(folder, fold):
                    if is_done(folder, fold):
                        bar.advance(epochs)
                    else:
                        (folder / "metrics.json").unlink(missing_ok=True)  # it counts this fold
                        train_fold(run, fold, tracker, bar)
        errors.close()
        return aggregate_folds(run, tracker)


def _open(run: RunContext, overrides: Sequence[str]) -> RunContext:
    """Make or open the run's folder; what an existing run resolved `auto` to holds."""
    environment = software(run.config, overrides) | {
        "data_fingerprint": run.data.fingerprint,
        "hardware": run.resolved.device_name,
        "settings": str(run.resolved),
        "resolved": asdict(run.resolved),
    }
    environment = create_or_open_run(run.folder, run.config, environment, run.folds_to_train)
    write_or_verify_folds(run.folder, run.data.folds, run.config.data.folds_csv)
    return run._replace(resolved=Resolved(**environment["resolved"]))


class FoldTask(NamedTuple):
    """One fold's data, model and what is kept of its training."""

    fold: int
    folder: Path
    bags: BagDataModule
    module: pl.LightningModule
    history: History
    checkpoints: SaveEpoch
    context: FailureContextCallback
    callbacks: list[pl.Callback]


def train_fold(run: RunContext, fold: int, tracker: Tracker, bar: ProgressBar) -> None:
    """Build, fit, score, mark done; an interrupted fold resumes from its last checkpoint."""
    task = build_fold(run, fold, bar)
    with tracker.fold(fold) as loggers:
        trainer = fit_fold(run, task, loggers, bar)
        predictions = predict_held_out(task, trainer)
        tracker.log_fold(predictions, score_fold(predictions["label"], predictions["probability"]))
    mark_done(task, predictions, bar)


def build_fold(run: RunContext, fold: int, bar: ProgressBar) -> FoldTask:
    """Return the fold's data, a model with new weights and the callbacks of its training."""
    config, data, folder = run.config, run.data, fold_folder(run.folder, fold)
    encoder = None if data.encoders is None else data.encoders.store(fold)
    store = fold_store(run, encoder)
    pl.seed_everything(keyed_seed(config.seed, fold, "weights") % 2**32, verbose=False)
    bags = BagDataModule(config.data, data.cohort, store, data.folds, fold, config.seed)
    module = build_model(
        config,
        len(bags.clinical.names),
        store,
        None if encoder is None else encoder.path,
        pos_weight=_pos_weight(config.loss.pos_weight, data.cohort.table.loc[bags.train_patients]),
        chunk_size=run.resolved.encoder_chunk_size,
        label_smoothing=config.loss.label_smoothing,
    )
    trainer, history = config.trainer, History(folder / "history.csv")
    steps = -(-len(bags.train_patients) // config.data.batch_size)
    average = weight_averaging(config.weight_averaging, trainer.max_epochs, steps)
    checkpoints = SaveEpoch(folder, bool(bags.inner_patients), averages=average is not None)
    context = FailureContextCallback(bags)
    callbacks: list[pl.Callback] = [
        KeyedSeeds(config.seed, fold),
        history,
        FoldProgress(bar, fold, trainer.max_epochs),
        checkpoints,
        context,
    ]
    if average is not None:
        callbacks.append(average)
    if trainer.patience is not None:
        callbacks.append(Patience(trainer.patience, trainer.check_val_every_n_epoch))
    return FoldTask(fold, folder, bags, module, history, checkpoints, context, callbacks)


def fit_fold(run: RunContext, task: FoldTask, loggers: Any, bar: ProgressBar) -> pl.Trainer:
    """Train from the last checkpoint, or from the start; return the trainer."""
    resume = find_resume_checkpoint(task.folder, task.fold)
    if resume.notice:
        bar.print(resume.notice)
    trainer = make_trainer(
        run.config.trainer, task.folder, logger=loggers, callbacks=task.callbacks
    )
    with task.context.located():
        trainer.fit(
            task.module, datamodule=task.bags, ckpt_path=resume.checkpoint, weights_only=True
        )
    return trainer


def predict_held_out(task: FoldTask, trainer: pl.Trainer) -> pd.DataFrame:
    """Write and return the held-out patients' predictions by the reported checkpoint."""
    path = reported_checkpoint(task.folder, task.checkpoints.selected_epoch)
    with task.context.located():
        predictions, instances = checkpoint_predictions(
            load_checkpoint(path), task.folder, trainer, task.bags
        )
    labels = task.bags.cohort.table["label"].loc[predictions["patient"]].to_numpy()
    predictions.insert(1, "fold", task.fold)
    predictions.insert(2, "label", labels)
    write_csv(task.folder / "predictions.csv", predictions)
    write_csv(task.folder / "instances.csv", instances)
    return predictions


def mark_done(task: FoldTask, predictions: pd.DataFrame, bar: ProgressBar) -> None:
    """Write `done.json`, last of all, and print the fold's score."""
    score = pool(predictions, 1, ["balanced_accuracy"])["balanced_accuracy"]
    last, selected = len(task.history.rows), task.checkpoints.selected_epoch
    epoch = f"epoch {last}" if selected is None else f"epoch {selected + 1} of {last}, selected"
    bar.print(
        f"{task.folder}: balanced accuracy {score['value']:.3f} [{score['low']:.3f}, "
        f"{score['high']:.3f}] after {epoch}, {task.history.seconds:.0f} s"
    )
    done = {
        "fold": task.fold,
        "epochs": last,
        "selected_epoch": selected,
        "seconds": round(task.history.seconds, 1),
    }
    write_json(task.folder / "done.json", done)
    AtomicCheckpointIO().remove_checkpoint(task.folder / PREVIOUS)  # nothing resumes from here


def _pos_weight(pos_weight: float | str | None, train: pd.DataFrame) -> float | None:
    if pos_weight != "balanced":
        return pos_weight  # type: ignore[return-value]
    tumoral = int((train["label"] == 1).sum())
    return (len(train) - tumoral) / tumoral
