"""The trackers of one job, switched on by the group `logger`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers.logger import Logger

from lymphoml.core.untrusted import read_mapping
from lymphoml.training.loggers import wandb as wandb_runs
from lymphoml.training.loggers.privacy import (
    finite_scalars,
    public_config,
    public_slug,
    sweep_factors,
)
from lymphoml.training.loggers.tensorboard import TensorBoardEvents


class Tracker:
    """Follows one configuration's cross-validation: a context, with a context per fold.

    W&B gets one run per fold (`job_type` "fold") and one for the whole ("cv"), all of one group. A
    fold that is resumed gets a new run, which starts with the epochs in `history.csv`. Under
    `wandb agent` the sweep's own run becomes the "cv" run.
    """

    def __init__(self, config: Any, run_dir: Path, slug: str):
        self.config, self.run_dir, self.slug = config, run_dir, public_slug(slug)
        # Left in the environment, they would make every fold's run the sweep's.
        self._run_id = os.environ.pop("WANDB_RUN_ID", None)
        self._sweep_id = os.environ.pop("WANDB_SWEEP_ID", None)
        options = config.logger
        self._mode = wandb_runs.resolve_mode(options.mode) if options.wandb else "disabled"
        self._cv: Any = None
        self._fold: Any = None
        self._reported = False

    def __enter__(self) -> "Tracker":
        if self._sweep_id and self._mode != "disabled":
            self._start_cv()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._cv is None:
            return
        metrics = self.run_dir / "metrics.json"
        if kind is None and not self._reported and metrics.exists():  # finished before this sweep
            advice = "remove it and rerun the same command"
            self.log_cross_validation(read_mapping(metrics, advice))
        self._cv.finish(exit_code=int(kind is not None))

    @contextmanager
    def fold(self, fold: int) -> Iterator[list[Logger]]:
        """Yield the loggers of a fold's Trainer; a block that raises closes them as failed."""
        folder, factors = self.run_dir / f"fold-{fold}", sweep_factors(self.config) | {"fold": fold}
        loggers: list[Logger] = []
        with ExitStack() as stack:
            if self.config.logger.tensorboard:
                events = TensorBoardEvents(folder / "tensorboard", factors)
                stack.callback(events.close)
                loggers.append(events)
            if self._mode != "disabled":
                start = partial(self._start, "fold", f"fold {fold} {self.slug}", factors)
                self._fold = wandb_runs.WandbRun(start, folder / "history.csv")
                stack.push(self._close_fold)
                loggers.append(self._fold)
            yield loggers

    def _close_fold(self, kind: type[BaseException] | None, *_: object) -> None:
        self._fold.close(failed=kind is not None)
        self._fold = None

    def log_fold(self, predictions: pd.DataFrame, scores: Mapping[str, Any]) -> None:
        """Log a fold's scores, ROC curve and confusion matrix, inside the fold's block.

        Of `predictions` only the columns label (0 or 1) and probability are read.
        """
        if self._fold is not None:
            self._fold.run.summary.update(finite_scalars(scores))
            wandb_runs.log_charts(self._fold.run, predictions["label"], predictions["probability"])

    def log_cross_validation(self, metrics: Mapping[str, Any]) -> None:
        """Log the content of `metrics.json`: the pooled scores and a table of the folds."""
        if self._mode == "disabled":
            return
        if self._cv is None:
            self._start_cv()
        rows = pd.DataFrame([finite_scalars(fold) for fold in metrics["folds"]])
        folds = wandb_runs.make_table(self._cv, "folds", rows)
        self._cv.log(finite_scalars(metrics) | {"folds": folds})
        self._reported = True

    def _start_cv(self) -> None:
        factors = sweep_factors(self.config)
        ids = {"id": self._run_id, "sweep_id": self._sweep_id}
        self._cv = self._start("cv", self.slug, factors, **ids)

    def _start(self, job_type: str, name: str, factors: dict[str, Any], **ids: str | None) -> Any:
        options, tags = self.config.logger, (*self.config.tags, self.config.name)
        # A sweep chose where its runs go; the folds' runs go there too.
        sweep = os.environ if self._sweep_id else {}
        return wandb_runs.start_run(
            dir=self.run_dir,
            mode=self._mode,
            project=sweep.get("WANDB_PROJECT", options.project),
            entity=sweep.get("WANDB_ENTITY", options.entity),
            group=self.slug,
            job_type=job_type,
            name=name[:128],
            tags=list(dict.fromkeys(tags)),
            config=factors | {"cfg": public_config(self.config.to_dict())},
            **ids,
        )
