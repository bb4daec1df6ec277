"""Whatever can be refused is refused here, before a run folder is made."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import nn

from lymphoml import compute
from lymphoml.build import uses_images
from lymphoml.checks import check
from lymphoml.data.cohort import Cohort, read_cohort
from lymphoml.data.datamodule import BagDataModule
from lymphoml.data.folds import make_folds, read_folds
from lymphoml.data.images import ImageStore, read_images
from lymphoml.errors import InputError, one_line
from lymphoml.module import BagClassifier
from lymphoml.trainer import make_trainer


class Prepared(NamedTuple):
    """What the folds of a job have in common."""

    cohort: Cohort  # labelled patients
    store: ImageStore | None  # None where the model looks at no image
    folds: pd.DataFrame  # patient, fold
    asked: list[int]  # the folds to train
    fingerprint: str  # of table and images
    settings: str  # how this machine computes, in words


def prepare(config: dict[str, Any], folder: Path) -> Prepared:
    """Read, check and build everything once. Raises InputError.

    Sets `trainer.precision` to what `auto` means here, which then counts as configured: a run
    never mixes the arithmetic of two machines.
    """
    check(config)
    data, options = config["data"], config["trainer"]
    asked = _folds_asked(config["fold"], data["folds"] * data["repeats"])
    options["precision"] = compute.precision(options["precision"], options["accelerator"])
    threads = compute.set_threads(options["threads"])
    module = new_module(config, clinical_dim=1)
    module.configure_optimizers()
    make_trainer(options, folder, logger=False, callbacks=[])
    cohort = _labelled(data)
    folds = _folds(config, cohort, folder)
    store, fingerprint = _open_images(config, cohort)
    if store is not None:
        _try_size(module.model.encoder, config["model"]["encoder"], *store.size)
    for fold in asked:
        BagDataModule(data, cohort, None, folds, fold, config["seed"])
    settings = f"precision {options['precision']}, {threads} threads, channels last"
    return Prepared(cohort, store, folds, asked, fingerprint, settings)


def new_module(
    config: dict[str, Any], clinical_dim: int, pos_weight: float | None = None
) -> BagClassifier:
    return BagClassifier(
        config["model"], config["optim"], config["scheduler"], clinical_dim, pos_weight
    )


def _labelled(data: dict[str, Any]) -> Cohort:
    cohort = read_cohort(data).labelled
    if cohort.table.empty:
        raise InputError(
            f"data.root={data['root']}: no patient has a label; data.label_column="
            f"{data['label_column']} must name the column that holds them"
        )
    return cohort


def _folds(config: dict[str, Any], cohort: Cohort, folder: Path) -> pd.DataFrame:
    """The user's folds, the run's if it has been begun, or new ones."""
    data, begun = config["data"], folder / "folds.csv"
    given = Path(data["fold_file"]).expanduser() if data["fold_file"] else None
    if given or begun.exists():
        return read_folds(given or begun, cohort.table, data["folds"], data["repeats"])
    return make_folds(cohort.table, data["folds"], data["repeats"], config["seed"])


def _open_images(config: dict[str, Any], cohort: Cohort) -> tuple[ImageStore | None, str]:
    """The decoded images, None where the model looks at none, and the cohort's fingerprint."""
    table = cohort.fingerprint()
    if not uses_images(config["model"]):
        return None, table
    store, key = read_images(cohort.images, config["data"])
    height, width = store.size
    if config["data"]["rotate"] and height != width:
        raise InputError(
            f"data.rotate needs square images, these are {width} x {height}; set data.crop"
        )
    return store, f"{table[:16]}-{key[:16]}"


def _try_size(encoder: nn.Module, spec: dict[str, Any], height: int, width: int) -> None:
    """Raises InputError where the encoder can't look at images of this many pixels."""
    try:
        with torch.inference_mode():
            encoder.eval()(torch.zeros(1, 3, height, width))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"model.encoder: {spec.get('name')} refuses images of {width} x {height} "
            f"pixels ({one_line(error)[:120]}); set data.crop or data.resize, or tell a vision "
            f"transformer its size by +model.encoder.img_size={height}"
        ) from None


def _folds_asked(asked: int | str, count: int) -> list[int]:
    if asked == "all":
        return list(range(count))
    if type(asked) is int and 0 <= asked < count:
        return [asked]
    raise InputError(f"fold={asked}: allowed are all and 0 to {count - 1}")
