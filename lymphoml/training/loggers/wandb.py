"""Weights & Biases, with everything off that it collects by itself."""

import atexit
import functools
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.evaluation.metrics import THRESHOLD

MODES = ("auto", "offline", "online", "disabled")
CLASSES = ["reactive", "tumoral"]


def mode(asked: str) -> str:
    """Where runs go: offline, online or disabled; `auto` is online where a key is configured.

    Raises InputError for another word, a malformed key, and `online` without a key.
    """
    if asked not in MODES:
        raise InputError(f"logger.mode={asked}: allowed are {', '.join(MODES)}")
    chosen = os.environ.get("WANDB_MODE", "auto") if asked == "auto" else asked
    if chosen not in ("auto", "online"):
        return chosen
    wandb = _client()
    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError as error:
        raise InputError(f"W&B: {error}") from None
    if chosen == "online" and not known:
        raise InputError(
            "logger.mode=online: W&B knows no key or is switched off; run `wandb login`, set "
            "WANDB_API_KEY, or choose logger.mode=offline"
        )
    return "online" if known else "offline"


def start(sweep_id: str | None = None, **named: Any) -> Any:
    """A new run beside any that is open, never instead of it.

    The client's own logs name paths. They go while they are being written, so that not even a kill
    leaves them.
    """
    wandb = _client()
    settings = wandb.Settings(sweep_id=sweep_id)
    run = wandb.init(reinit="create_new", settings=settings, **named)
    for logs in (run.settings.log_dir, _own_cache() / "wandb" / "logs"):
        shutil.rmtree(logs, ignore_errors=True)
    return run


def finish(run: Any, failed: bool) -> None:
    run.finish(exit_code=int(failed))


def log_charts(run: Any, label: np.ndarray, probability: np.ndarray) -> None:
    """The confusion matrix and, where both classes are present, the ROC curve: chart and table."""
    plot = _client().plot
    called = (probability > THRESHOLD).astype(int)
    charts = {"confusion": plot.confusion_matrix(y_true=label, preds=called, class_names=CLASSES)}
    if len(np.unique(label)) == 2:
        both = np.stack([1 - probability, probability], axis=1)
        charts["roc"] = plot.roc_curve(label, both, labels=CLASSES, classes_to_plot=[1])
    for name, chart in charts.items():
        _keep_in_run(chart.table, run, f"{name}_table")
    run.log(charts)


def table(run: Any, name: str, rows: pd.DataFrame) -> Any:
    """The rows, to be logged to this run under this name."""
    table = _client().Table(dataframe=rows)
    _keep_in_run(table, run, name)
    return table


def _keep_in_run(table: Any, run: Any, name: str) -> None:
    """Make the table a file of the run.

    Left to itself, W&B also makes it an artifact: a copy under the home folder, whose full path it
    writes into the run.
    """
    table.bind_to_run(run, name, run.step)


@functools.cache
def _own_cache() -> Path:
    cache = tempfile.mkdtemp(prefix="wandb-")
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    return Path(cache)


@functools.cache
def _client() -> Any:
    """The wandb module, imported only where W&B is in use."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # stack traces name paths
    if "WANDB_CACHE_DIR" not in os.environ:  # else its service logs under the home folder
        os.environ["WANDB_CACHE_DIR"] = str(_own_cache())
    import wandb

    logging.getLogger("wandb").setLevel(logging.CRITICAL)  # a file beside the run that names paths
    wandb.setup(
        wandb.Settings(
            silent=True,
            console="off",
            host="",
            program="train.py",
            save_code=False,
            disable_code=True,
            disable_git=True,
            symlink=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
    )
    return wandb
