"""Weights & Biases, without anything that it collects by itself."""

import atexit
import functools
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers.logger import Logger

from lymphoml.core.errors import InputError
from lymphoml.training.loggers.privacy import finite_scalars

SUMMARIES = {"val/balanced_accuracy": "max,last", "val/loss": "min,last", "train/loss": "min,last"}


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
        self.run.log(dict(metrics), step=int(metrics["epoch"]))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log none: they may contain paths, and the run has the public configuration."""

    def close(self, failed: bool) -> None:
        if self._run is not None:
            self._run.finish(exit_code=int(failed))


def resolve_mode(mode: str) -> str:
    """Return offline, online or disabled; `auto` is online where an API key is configured.

    Raises InputError for a malformed key, and for `online` without a key.
    """
    chosen = os.environ.get("WANDB_MODE", "auto") if mode == "auto" else mode
    if chosen not in ("auto", "online"):
        return chosen
    wandb = _client()
    try:
        has_key = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        raise InputError(f"W&B: {error}") from None
    if chosen == "online" and not has_key:
        raise InputError(
            "logger.mode=online: W&B has no API key or is switched off. Run `wandb login`, set "
            "WANDB_API_KEY, or set logger.mode=offline."
        )
    return "online" if has_key else "offline"


def start_run(sweep_id: str | None = None, **options: Any) -> Any:
    """Start a new run, whatever other runs are open.

    The client's own logs contain paths. They are unlinked while open, so that not even a kill
    leaves them.
    """
    wandb = _client()
    run = wandb.init(reinit="create_new", settings=wandb.Settings(sweep_id=sweep_id), **options)
    for logs in (run.settings.log_dir, _own_cache() / "wandb" / "logs"):
        shutil.rmtree(logs, ignore_errors=True)
    return run


def log_charts(run: Any, label: pd.Series, probability: pd.Series) -> None:
    """Log the confusion matrix and, where both classes are present, the ROC curve."""
    from lymphoml.evaluation.metrics import THRESHOLD

    plot, names, predicted = _client().plot, ["reactive", "tumoral"], probability > THRESHOLD
    charts = {
        "confusion": plot.confusion_matrix(
            y_true=label.tolist(), preds=predicted.astype(int).tolist(), class_names=names
        )
    }
    if label.nunique() == 2:
        both = pd.concat([1 - probability, probability], axis=1).to_numpy()
        charts["roc"] = plot.roc_curve(label, both, labels=names, classes_to_plot=[1])
    for name, chart in charts.items():
        chart.table.bind_to_run(run, f"{name}_table", run.step)
    run.log(charts)


def make_table(run: Any, name: str, rows: pd.DataFrame) -> Any:
    """Return the rows as a table, to be logged to this run under this name.

    Bound, it is a file of the run. Else W&B makes it an artifact too: a copy under the home folder,
    whose full path it writes into the run.
    """
    table = _client().Table(dataframe=rows)
    table.bind_to_run(run, name, run.step)
    return table


@functools.cache
def _own_cache() -> Path:
    cache = tempfile.mkdtemp(prefix="wandb-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    return Path(cache)


@functools.cache
def _client() -> Any:
    """Return the wandb module, imported only where W&B is in use."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # stack traces contain paths
    if "WANDB_CACHE_DIR" not in os.environ:  # else its service logs under the home folder
        os.environ["WANDB_CACHE_DIR"] = str(_own_cache())
    import wandb

    logging.getLogger("wandb").setLevel(logging.CRITICAL)  # a file in the run that contains paths
    wandb.setup(
        wandb.Settings(
            silent=True, console="off", host="", program="train.py", save_code=False,
            disable_code=True, disable_git=True, symlink=False, x_disable_meta=True,
            x_disable_stats=True, x_disable_machine_info=True, x_save_requirements=False,
        )
    )  # fmt: skip
    return wandb
