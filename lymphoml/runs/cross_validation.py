"""Cross-validate one configuration into its run folder, skipping what is done."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from lymphoml.core.errors import RuntimeFailure
from lymphoml.core.files import write_csv, write_json
from lymphoml.core.progress import ProgressBar, progress_bar
from lymphoml.core.seeding import keyed_seed
from lymphoml.data.datamodule import BagDataModule
from lymphoml.data.persons import count_persons, describe_persons
from lymphoml.evaluation.pooled import pool, score_rows
from lymphoml.runs.aggregate import aggregate_folds
from lymphoml.runs.checksums import SUMS, write_checksums
from lymphoml.runs.fold_errors import FailureContextCallback, fold_errors
from lymphoml.runs.fold_lock import fold_folder, fold_lock, is_done
from lymphoml.runs.prepare import RunContext, build_model, fold_store, prepare
from lymphoml.runs.provenance import software
from lymphoml.runs.run_folder import create_or_open_run, write_or_verify_folds, write_out_of_fold
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.trained_on import check_folds, write_trained_on
from lymphoml.training import checkpoint as checkpoint_files
from lymphoml.training.callbacks import FoldProgress, History, KeyedSeeds, Patience
from lymphoml.training.checkpoint import PREVIOUS, load_checkpoint, reported_checkpoint
from lymphoml.training.hardware import Resolved
from lymphoml.training.lightning_module import BagClassifier
from lymphoml.training.loggers.tracker import Tracker
from lymphoml.training.predict_fold import checkpoint_predictions
from lymphoml.training.trainer import make_trainer
from lymphoml.training.weight_averaging import weight_averaging


def cross_validate(
    config: TrainConfig, folder: Path, overrides: Sequence[str] = (), parallel_jobs: int = 1,
    sweep: bool = False, choices: Mapping[str, Any] | None = None,
) -> float:  # fmt: skip
    """Train the folds of `config.fold` that are not done; return the pooled balanced accuracy.

    The last fold to finish, by whichever process, completes the run. While folds are missing the
    score is that of `config.fold`. `overrides` are the command line's, of a `sweep` perhaps of
    other jobs as well; `parallel_jobs` share the machine; `choices` are Hydra's, by group, for
    trackers. Raises InputError before the folder is made, RuntimeFailure at the end where folds
    failed under `on_fold_error=skip`.
    """
    run = prepare(config, folder, parallel_jobs, () if sweep else overrides)
    tracker = Tracker(run.config, folder, folder.name, choices)
    run = _open(run, overrides)
    folds, epochs = config.folds_to_train, config.trainer.max_epochs
    if not all(is_done(folder, fold) for fold in folds):
        chunk = run.resolved.encoder_chunk_size
        chunks = f", {chunk} images at a time" if chunk else ""
        print(f"{folder}: {run.resolved.device_name}, {run.resolved}{chunks}", flush=True)
        persons = count_persons(run.data.cohort, config.data, run.data.folds)
        print(describe_persons(persons), flush=True)
        if config.data.site_folds:
            sites = enumerate(sorted(run.data.cohort.origin["site"].unique()))
            print(f"folds: {', '.join(f'{fold} is site {site}' for fold, site in sites)}")
    failed: list[int] = []
    skip = config.on_fold_error == "skip"
    with tracker:
        shown = config.trainer.enable_progress_bar
        with progress_bar("", len(folds) * epochs, "epochs", shown) as bar:
            for fold in folds:
                with fold_errors(fold, skip, failed), fold_lock(folder, fold):
                    if is_done(folder, fold):
                        bar.advance(epochs)
                    else:
                        for name in (SUMS, "metrics.json"):  # which count this fold
                            (folder / name).unlink(missing_ok=True)
                        train_fold(run, fold, tracker, bar)
        if failed:
            plural, missing = "s" * (len(failed) > 1), ", ".join(map(str, failed))
            raise RuntimeFailure(
                f"missing: fold{plural} {missing}, for the reasons above. Rerun the same command "
                f"to train what is missing."
            )
        return aggregate_folds(run, tracker)


def _open(run: RunContext, overrides: Sequence[str]) -> RunContext:
    """Make or open the run's folder; the chunk size of an existing run holds where it is `auto`."""
    environment = software(run.config, overrides) | {
        "data_fingerprint": run.data.fingerprint,
        "hardware": run.resolved.device_name,
        "settings": str(run.resolved),
        "resolved": asdict(run.resolved),
    }
    environment = create_or_open_run(run.folder, run.config, environment)
    write_or_verify_folds(run.folder, run.data.folds)
    check_folds(run.folder)
    return run._replace(resolved=Resolved(**environment["resolved"]))


def train_fold(run: RunContext, fold: int, tracker: Tracker, bar: ProgressBar) -> None:
    """Train, predict, score, mark done; an interrupted fold resumes from its last checkpoint."""
    config, folder = run.config, fold_folder(run.folder, fold)
    bags, module = build_fold(run, fold)
    write_trained_on(run, fold)
    history, context = History(folder / "history.csv"), FailureContextCallback(bags)
    options, steps = config.trainer, -(-len(bags.train_patients) // config.data.batch_size)
    average = weight_averaging(config.weight_averaging, options.max_epochs, steps)
    checkpoints = checkpoint_files.SaveEpoch(
        folder, bool(bags.inner_patients), averages=average is not None
    )
    progress = FoldProgress(bar, fold, options.max_epochs, history)
    callbacks = [KeyedSeeds(config.seed, fold), history, progress, checkpoints, context]
    if average is not None:
        callbacks.append(average)
    if options.patience is not None:
        callbacks.append(Patience(options.patience, options.check_val_every_n_epoch))
    resume = checkpoint_files.find_resume_checkpoint(folder, fold)
    if resume.notice:
        bar.print(resume.notice)
    with tracker.fold(fold) as loggers, context.located():
        trainer = make_trainer(options, folder, logger=loggers, callbacks=callbacks)
        trainer.fit(module, datamodule=bags, ckpt_path=resume.checkpoint, weights_only=True)
        predictions = predict_held_out(folder, fold, bags, checkpoints.selected_epoch, trainer)
        tracker.log_fold(predictions, score_rows(predictions))
    score = pool(predictions, 1, ["balanced_accuracy"])["balanced_accuracy"]
    held_out = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
    if predictions["label"].nunique() < 2:
        held_out = "n/a (one class only)"
    last, selected = len(history.rows), checkpoints.selected_epoch
    epoch = f"epoch {last}" if selected is None else f"epoch {selected + 1} of {last}, selected"
    bar.print(f"{folder}: balanced accuracy {held_out} after {epoch}, {history.seconds:.0f} s")
    seconds = round(history.seconds, 1)
    done = {"fold": fold, "epochs": last, "selected_epoch": selected, "seconds": seconds}
    files = sorted(each.name for each in folder.iterdir() if each.is_file())
    write_checksums(folder, [each for each in files if not each.startswith((".", SUMS, PREVIOUS))])
    write_json(folder / "done.json", done)  # last of all
    checkpoint_files.AtomicCheckpointIO().remove_checkpoint(folder / PREVIOUS)  # nor resumed


def build_fold(run: RunContext, fold: int) -> tuple[BagDataModule, BagClassifier]:
    """Return the fold's data, and a model with new weights."""
    config, data = run.config, run.data
    encoder = data.encoders.store(fold) if data.encoders is not None else None
    store = fold_store(run, encoder)
    pl.seed_everything(keyed_seed(config.seed, fold, "weights") % 2**32, verbose=False)
    options = config.data, data.cohort, store, data.folds, fold, config.seed, data.inputs
    bags = BagDataModule(*options)
    pos_weight = config.loss.pos_weight
    if pos_weight == "balanced":
        labels = data.cohort.table["label"].loc[bags.train_patients]
        tumoral = int((labels == 1).sum())
        pos_weight = (len(labels) - tumoral) / tumoral
    module = build_model(
        config, len(bags.clinical.names), store, encoder and encoder.path,
        pos_weight=pos_weight, chunk_size=run.resolved.encoder_chunk_size,
        label_smoothing=config.loss.label_smoothing, after_sigmoid=config.loss.after_sigmoid,
    )  # fmt: skip
    return bags, module


def predict_held_out(
    folder: Path, fold: int, bags: BagDataModule, selected_epoch: int | None, trainer: pl.Trainer
) -> pd.DataFrame:
    """Write and return the held-out patients' predictions by the reported checkpoint."""
    checkpoint = load_checkpoint(reported_checkpoint(folder, selected_epoch))
    predictions, instances = checkpoint_predictions(checkpoint, folder, trainer, bags)
    labels = bags.cohort.table["label"].loc[predictions["patient"]].to_numpy()
    predictions.insert(1, "fold", fold)
    predictions.insert(2, "label", labels)
    predictions["outside_range"] = bags.outside_range()[predictions["patient"]].to_numpy()
    write_out_of_fold(folder, predictions)
    write_csv(folder / "instances.csv", instances)
    return predictions
