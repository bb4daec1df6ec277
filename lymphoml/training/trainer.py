"""Lightning's Trainer as every part of lymphoml uses it."""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from lymphoml.core.errors import InputError
from lymphoml.training import hardware
from lymphoml.training.checkpoint import AtomicCheckpointIO

NOISE = (  # warnings of Lightning's
    ".*does not have many workers.*",
    ".*LeafSpec.*",
    ".*isinstance.treespec.*",
    "Found .* in eval mode at the start.*",  # norm=frozen, and meant
)


def make_trainer(options: dict[str, Any], folder: Path, **more: Any) -> pl.Trainer:
    """Lightning's Trainer, on one device, as quiet and as repeatable as it gets."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for noise in NOISE:
        warnings.filterwarnings("ignore", noise)
    try:
        return _trainer(options, folder, **more)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"trainer.accelerator={options['accelerator']} with "
            f"trainer.precision={options['precision']}: {reason}"
        ) from None


def _trainer(options: dict[str, Any], folder: Path, **more: Any) -> pl.Trainer:
    asked, accelerator = options["precision"], options["accelerator"]
    # Determinism would also fill every new tensor with nan: it hides nothing here and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return pl.Trainer(
        accelerator=accelerator,
        devices=1,
        precision=hardware.resolve_precision(asked, accelerator),  # type: ignore[arg-type]
        max_epochs=options["max_epochs"],
        check_val_every_n_epoch=options["check_val_every_n_epoch"],
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
