"""Lightning's Trainer as every part of lymphoml uses it."""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lymphoml.core.errors import InputError
from lymphoml.training.checkpoint import AtomicCheckpointIO
from lymphoml.training.hardware import resolve_precision
from lymphoml.training.settings import TrainerConfig

EXPECTED_WARNINGS = (  # Lightning's
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*isinstance.treespec.*",
    "Found .* in eval mode at the start.*",  # norm=frozen
)


def make_trainer(options: TrainerConfig, folder: Path, **more: Any) -> pl.Trainer:
    """Return a quiet, deterministic Trainer on one device; `options` is the group `trainer`.

    Raises InputError where this machine lacks the accelerator or the precision.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    # Determinism would also fill every new tensor with NaN, which takes time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    one_process = LightningEnvironment()  # else Lightning takes SLURM's, and handles its signals
    one_process.set_global_rank(0)  # whatever RANK says: other ranks would write no log
    precision: Any = resolve_precision(options.precision, options.accelerator)
    try:
        return pl.Trainer(
            accelerator=options.accelerator, devices=1, precision=precision,
            max_epochs=options.max_epochs, check_val_every_n_epoch=options.check_val_every_n_epoch,
            deterministic="warn", num_sanity_val_steps=0, log_every_n_steps=1,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
            plugins=[AtomicCheckpointIO(), one_process], default_root_dir=folder, **more,
        )  # fmt: skip
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"trainer.accelerator={options.accelerator} with "
            f"trainer.precision={options.precision}: {reason}"
        ) from None
