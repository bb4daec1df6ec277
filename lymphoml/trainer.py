"""Lightning's Trainer as every part of lymphoml uses it."""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lymphoml import compute
from lymphoml.checkpoint import AtomicCheckpointIO


def make_trainer(options: dict[str, Any], folder: Path, **more: Any) -> pl.Trainer:
    """Lightning's Trainer, on one device, as quiet and as repeatable as it gets."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for noise in (".*does not have many workers.*", ".*LeafSpec.*", ".*isinstance.treespec.*"):
        warnings.filterwarnings("ignore", noise)
    return pl.Trainer(
        accelerator=options["accelerator"],
        devices=1,
        precision=compute.precision(options["precision"]),  # type: ignore[arg-type]
        max_epochs=options["max_epochs"],
        check_val_every_n_epoch=options["validate_every"],
        deterministic="warn",
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder,
        **more,
    )
