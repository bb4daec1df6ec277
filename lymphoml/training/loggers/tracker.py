"""One job's trackers, switched on by the configuration's `logger` group."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from lymphoml.core.untrusted import read_mapping
from lymphoml.training.loggers import wandb as wandb_runs
from lymphoml.training.loggers.public import factors, numbers, public_config, public_slug
from lymphoml.training.loggers.tensorboard import event_file

# What Lightning's Trainer needs of a logger.


class EpochLogger(Logger):
    """Hands Lightning's metrics of an epoch to `write(metrics, epoch)`, and nothing else.

    Lightning's own loggers take every hyper-parameter too, paths included.
    """

    def __init__(self, name: str, write: Callable[[dict[str, float], int], Any]):
        super().__init__()
        self._name, self._write = name, write

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Lightning adds `epoch` to every row; its `step` counts batches, which nobody compares."""
        self._write(dict(metrics), int(metrics["epoch"]))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The tracker has told what is public."""


class Tracker:
    """Follows one configuration's cross-validation: use as a context, with a context per fold.

    W&B gets one run per fold (`job_type` "fold") and one for the whole ("cv"), all of one group.
    A fold that is trained again after an interruption gets a new run, which starts with the epochs
    that `history.csv` remembers: it is complete, and the interrupted one counts as failed or
    crashed. Under `wandb agent` the sweep's own run becomes the "cv" run.
    """

    def __init__(self, config: dict[str, Any], run_dir: Path, slug: str):
        self.config, self.run_dir, self.slug = config, run_dir, public_slug(slug)
        options, first = config["logger"], getattr(rank_zero_only, "rank", 0) == 0
        # Left in the environment, they would make every fold's run claim to be the sweep's.
        self._run_id = os.environ.pop("WANDB_RUN_ID", None)
        self._sweep_id = os.environ.pop("WANDB_SWEEP_ID", None)
        self._tensorboard = first and options["tensorboard"]
        self._wandb = wandb_runs.mode(options["mode"]) if first and options["wandb"] else "disabled"
        self._cv: Any = None
        self._reported = False
        self._folds: dict[int, Any] = {}

    def __enter__(self) -> "Tracker":
        if self._sweep_id and self._wandb != "disabled":
            self._start_cv()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._cv is None:
            return
        metrics = self.run_dir / "metrics.json"
        if kind is None and not self._reported and metrics.exists():
            advice = "remove it, and give the same command again"
            self.log_cross_validation(read_mapping(metrics, advice))  # done before this sweep
        wandb_runs.finish(self._cv, failed=kind is not None)

    @contextmanager
    def fold(self, fold: int) -> Iterator[list[Logger]]:
        """The loggers for a fold's Trainer; all end with the block, failed if it raises."""
        folder = self.run_dir / f"fold-{fold}"
        loggers: list[Logger] = []
        with ExitStack() as stack:
            if self._tensorboard:
                file = stack.enter_context(event_file(folder / "tensorboard"))
                file.describe(factors(self.config) | {"fold": fold})
                loggers.append(EpochLogger("tensorboard", file.write))
            if self._wandb != "disabled":
                run = stack.enter_context(self._fold_run(fold))
                loggers.append(EpochLogger("wandb", lambda row, epoch: run.log(row, step=epoch)))
                if (folder / "history.csv").exists():
                    for row in pd.read_csv(folder / "history.csv").to_dict("records"):
                        loggers[-1].log_metrics(numbers(row))
            yield loggers

    def log_fold(self, fold: int, predictions: pd.DataFrame, scores: Mapping[str, Any]) -> None:
        """Inside the fold's block: its scores, ROC curve and confusion matrix.

        Of `predictions` only the columns label (0 or 1) and probability are read.
        """
        if fold in self._folds:
            self._folds[fold].summary.update(numbers(scores))
            wandb_runs.log_charts(
                self._folds[fold],
                predictions["label"].to_numpy(int),
                predictions["probability"].to_numpy(float),
            )

    def log_cross_validation(self, metrics: Mapping[str, Any]) -> None:
        """The content of `metrics.json`: the pooled scores and a table of the folds."""
        if self._wandb != "disabled":
            if self._cv is None:
                self._start_cv()
            rows = pd.DataFrame([numbers(fold) for fold in metrics["folds"]])
            folds = wandb_runs.table(self._cv, "folds", rows)
            self._cv.log(numbers(metrics) | {"folds": folds})
            self._reported = True

    def _start_cv(self) -> None:
        self._cv = self._start("cv", self.slug, {}, id=self._run_id, sweep_id=self._sweep_id)

    @contextmanager
    def _fold_run(self, fold: int) -> Iterator[Any]:
        run = self._folds[fold] = self._start("fold", f"fold {fold} {self.slug}", {"fold": fold})
        try:
            run.define_metric("val/balanced_accuracy", summary="max,last")
            run.define_metric("val/loss", summary="min,last")
            run.define_metric("train/loss", summary="min,last")
            yield run
        except BaseException:
            wandb_runs.finish(run, failed=True)
            raise
        else:
            wandb_runs.finish(run, failed=False)
        finally:
            del self._folds[fold]

    def _start(self, job_type: str, name: str, more: dict[str, Any], **ids: str | None) -> Any:
        config = factors(self.config) | more | {"cfg": public_config(self.config)}
        options, tags = self.config["logger"], (*self.config["tags"], self.config["name"])
        # A sweep chose where its runs go; the folds' belong beside the sweep's own.
        chosen = os.environ if self._sweep_id else {}
        return wandb_runs.start(
            dir=self.run_dir,
            mode=self._wandb,
            project=chosen.get("WANDB_PROJECT", options["project"]),
            entity=chosen.get("WANDB_ENTITY", options["entity"]),
            group=self.slug,
            job_type=job_type,
            name=name[:128],
            tags=list(dict.fromkeys(tags)),
            config=config,
            **ids,
        )
