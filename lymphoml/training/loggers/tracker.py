"""Weights & Biases and TensorBoard: follow and compare a job while it trains.

The run folder has every number already, each fold's `history.csv` among them. No tracker gets a
patient's identifier, a path, the machine's name or its user.
"""

import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers.logger import Logger

from lymphoml.core.errors import one_line
from lymphoml.core.untrusted import read_mapping
from lymphoml.core.wandb_client import (
    OFFLINE,
    PROJECT,
    best_effort,
    client,
    connection_error,
    own_cache,
    print_once,
    resolve_mode,
)
from lymphoml.training.loggers.privacy import (
    FOLD_SCORES,
    SUMMARY,
    finite_scalars,
    metric_rows,
    public_config,
    public_slug,
    sweep_factors,
)
from lymphoml.training.loggers.tensorboard import TensorBoardEvents

SUMMARIES = {"val/balanced_accuracy": "max,last", "val/loss": "min,last", "train/loss": "min,last"}


class Tracker:
    """Follows one configuration's cross-validation: a context, with a context per fold.

    W&B gets one run per fold (`job_type` "fold") and one for the whole ("cv"), all of one group. A
    fold that is resumed gets a new run, which starts with the epochs in `history.csv`. Under
    `wandb agent` the sweep's own run becomes the "cv" run. `choices` are Hydra's, by group.
    """

    def __init__(self, config: Any, run_dir: Path, slug: str, choices: Any = None):
        self.config, self.run_dir, self.slug = config, run_dir, public_slug(slug)
        self._group = public_slug(slug, config.name)
        self._factors = sweep_factors(config, choices or {})
        # Left in the environment, they would make every fold's run the sweep's.
        self._run_id = os.environ.pop("WANDB_RUN_ID", None)
        self._sweep_id = os.environ.pop("WANDB_SWEEP_ID", None)
        options = config.logger
        self._mode = resolve_mode(options.mode) if options.wandb else "disabled"
        self._cv: Any = None
        self._fold: WandbRun | None = None
        self._reported = False

    def __enter__(self) -> "Tracker":
        if self._sweep_id and self._mode != "disabled":
            with best_effort():
                self._cv = self._start("cv", self.slug, self._factors)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._cv is None:
            return
        metrics = self.run_dir / "metrics.json"
        if kind is None and not self._reported and metrics.exists():  # finished before this sweep
            self.log_cross_validation(read_mapping(metrics, "remove it and rerun the same command"))
        with best_effort():
            self._cv.finish(exit_code=int(kind is not None))

    @contextmanager
    def fold(self, fold: int) -> Iterator[list[Logger]]:
        """Yield the loggers of a fold's Trainer; a block that raises closes them as failed."""
        folder, factors = self.run_dir / f"fold-{fold}", self._factors | {"fold": fold}
        loggers: list[Logger] = []
        with ExitStack() as stack:
            if self.config.logger.tensorboard:
                events = TensorBoardEvents(folder / "tensorboard", factors)
                stack.callback(events.close)
                loggers.append(events)
            if self._mode != "disabled":
                name = f"fold {fold} {self.slug}"
                start = functools.partial(self._start, "fold", name, factors)
                self._fold = WandbRun(start, folder / "history.csv")
                stack.push(self._fold.finish)
                loggers.append(self._fold)
            yield loggers

    def log_fold(self, predictions: pd.DataFrame, scores: Mapping[str, Any]) -> None:
        """Log a fold's FOLD_SCORES, ROC curve and confusion matrix, inside the fold's block.

        As fold/auroc and so on: a group of runs has one auroc, that of the cross-validation.
        Of `predictions` only the columns label (0 or 1) and probability are read.
        """
        if self._fold is not None:
            with best_effort():
                kept = {f"fold/{name}": scores[name] for name in FOLD_SCORES if name in scores}
                self._fold.run.summary.update(finite_scalars(kept))
                log_charts(self._fold.run, predictions["label"], predictions["probability"])

    def log_cross_validation(self, metrics: Mapping[str, Any]) -> None:
        """Log the SUMMARY of `metrics.json`, and a table of all its numbers."""
        if self._mode == "disabled":
            return
        # Bound, it is a file of the run. Else W&B makes it an artifact too: a copy under the home
        # folder, whose full path it writes into the run.
        with best_effort():
            self._cv = self._cv or self._start("cv", self.slug, self._factors)
            table = client().Table(["metric", "value", "low", "high"], metric_rows(metrics))
            table.bind_to_run(self._cv, "metrics", self._cv.step)
            flat = finite_scalars(metrics)
            numbers = {name: flat[key] for name, key in SUMMARY.items() if key in flat}
            self._cv.log(numbers | {"metrics": table})
        self._reported = True

    def _start(self, job_type: str, name: str, factors: dict[str, Any]) -> Any:
        """Start a new W&B run, whatever other runs are open; offline where the server fails."""
        reason = connection_error() if self._mode == "online" else None
        if reason is None:
            try:
                return self._init(job_type, name, factors)
            except client().Error as error:  # a wrong key, no right to the project
                if self._mode != "online":
                    raise
                reason = one_line(error)
        self._mode = "offline"
        print_once(f"W&B: {reason}; {OFFLINE}")
        return self._init(job_type, name, factors)

    def _init(self, job_type: str, name: str, factors: dict[str, Any]) -> Any:
        wandb, options = client(), self.config.logger
        # The agent's own run is the whole one.
        whole = job_type == "cv" and self._sweep_id  # an id alone would join all configurations
        run_id, sweep_id = (self._run_id, self._sweep_id) if whole else (None, None)
        # A sweep chose where its runs go; the folds' runs go there too.
        project, entity = os.environ.get("WANDB_PROJECT"), os.environ.get("WANDB_ENTITY")
        if not self._sweep_id:
            project, entity = options.project or project, options.entity or entity
        run = wandb.init(
            reinit="create_new", settings=wandb.Settings(sweep_id=sweep_id), id=run_id,
            dir=self.run_dir, mode=self._mode, project=project or PROJECT, entity=entity,
            group=self._group, job_type=job_type, name=name[:128],
            tags=list(dict.fromkeys((*self.config.tags, self.config.name))),
            config=factors | {"cfg": public_config(self.config.to_dict())},
        )  # fmt: skip
        # The client's own logs contain paths. They are unlinked while open, so that not even a kill
        # leaves them.
        for logs in (run.settings.log_dir, own_cache() / "wandb" / "logs"):
            shutil.rmtree(logs, ignore_errors=True)
        return run


class WandbRun(Logger):
    """A fold's run with a row per epoch, started by `start` when the first row is logged.

    Lightning's WandbLogger starts it before the first step, which then comes a third later. The
    first rows are those of `history`, where there is such a file.
    """

    name, version = "wandb", ""

    def __init__(self, start: Callable[[], Any], history: Path):
        super().__init__()
        self._start = start
        self._run: Any = None
        # Read now: History writes this epoch's row before Lightning logs it.
        self._rows = pd.read_csv(history).to_dict("records") if history.exists() else []

    @property
    def run(self) -> Any:
        if self._run is None:
            self._run = self._start()
            for name, summary in SUMMARIES.items():
                self._run.define_metric(name, summary=summary)
            for row in self._rows:
                self.log_metrics(finite_scalars(row))
        return self._run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with best_effort():
            self.run.log(dict(metrics), step=int(metrics["epoch"]))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log none: they may contain paths, and the run has the public configuration."""

    def finish(self, kind: type[BaseException] | None, *_: object) -> None:
        """Leave the fold's block: a run is marked as failed where it raises."""
        if self._run is not None:
            with best_effort():
                self._run.finish(exit_code=int(kind is not None))


def log_charts(run: Any, label: pd.Series, probability: pd.Series) -> None:
    """Log the confusion matrix and, where both classes are present, the ROC curve."""
    plot, names = client().plot, ["reactive", "tumoral"]
    both, truth = pd.concat([1 - probability, probability], axis=1).to_numpy(), label.tolist()
    charts = {"confusion": plot.confusion_matrix(both, truth, class_names=names)}
    if label.nunique() == 2:
        charts["roc"] = plot.roc_curve(label, both, labels=names, classes_to_plot=[1])
    for name, chart in charts.items():
        chart.table.bind_to_run(run, f"{name}_table", run.step)
    run.log(charts)
