"""Whatever can be refused is refused here, before a run folder is made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.datamodule import BagDataModule
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.folds import make_folds, read_folds
from lymphoml.data.image_store import ImageStore
from lymphoml.features.extractors import PretrainedEncoder
from lymphoml.features.instance_store import check_features, open_instance_store, rows_wanted
from lymphoml.features.pretraining.encoder_file import check_inputs
from lymphoml.features.pretraining.settings import gives_weights, refuse_pretraining, settle
from lymphoml.models.build import uses_images
from lymphoml.runs.encoders import RunEncoders
from lymphoml.runs.fold_lock import is_done
from lymphoml.runs.settings import reject_unused_options
from lymphoml.training.hardware import Resolved, check_input_size, configure_torch, resolve_hardware
from lymphoml.training.lightning_module import BagClassifier
from lymphoml.training.trainer import make_trainer


class RunContext(NamedTuple):
    """What the folds of a job have in common."""

    cohort: Cohort  # labelled patients
    store: ImageStore | FeatureStore | None  # None where the model looks at no image
    folds: pd.DataFrame  # patient, fold
    asked: list[int]  # the folds to train
    fingerprint: str  # of table and images
    settings: str  # how this machine computes, in words
    chunk_size: int | None  # what `auto` means for a run that begins now
    encoders: RunEncoders | None  # pretrained, where the configuration uses any
    weights: Path | None  # the file that the encoder begins with, if it does with one


def prepare(
    config: dict[str, Any], folder: Path, jobs: int = 1, words: Sequence[str] = ()
) -> RunContext:
    """Read, check and build everything once, for one of `jobs` side by side. Raises InputError.

    `words` are those of a single job, which are refused where they are for a pretraining and it
    has none.

    Sets `trainer.precision` to what `auto` means here, which then counts as configured: a run
    never mixes the arithmetic of two machines. Likewise the width of rows of features.
    """
    check_features(config)
    pretraining = settle(config, rows_wanted(config["model"]))
    if pretraining is None:
        refuse_pretraining(words)
    data, options = config["data"], config["trainer"]
    asked = config.folds_to_train
    resolved = resolve_hardware(options, jobs)
    options["precision"] = resolved.precision
    configure_torch(resolved)
    settings = str(resolved)
    module = new_module(config, clinical_dim=1)
    if module.model.fusion.fits_images:
        if module.automatic_optimization:
            raise InputError(
                "model/fusion=additive_fitted and stacking are fitted once, to an encoder and a "
                "pooling that stay as they are, and these learn; take model/fusion=additive, or an "
                "encoder of rows"
            )
        reject_unused_options(config)
    module.configure_optimizers()
    make_trainer(options, folder, logger=False, callbacks=[])
    everybody = load_cohort(data)
    cohort = _labelled(everybody, data)
    folds = _folds(config, cohort, folder)
    encoders, weights = None, _weights_file(config)
    if weights is not None:
        check_inputs(weights, data)
    lacking = [fold for fold in asked if not is_done(folder, fold)]
    if pretraining is not None:
        encoders = RunEncoders(config, pretraining, cohort, folds, folder)
        encoders.check_stored(lacking)
    store, fingerprint = _open_images(config, cohort, encoders, (lacking or asked)[0])
    chunk_size = None if options["encoder_chunk_size"] == "auto" else options["encoder_chunk_size"]
    if isinstance(store, FeatureStore):
        config["model"]["encoder"]["dim"] = len(store.names)
        if config["model"]["encoder"].get("balance_blocks"):
            config["model"]["encoder"]["widths"] = store.widths
        new_module(config, clinical_dim=1)  # of this width
    elif store is not None:
        check_input_size(
            module.model.encoder, str(config["model"]["encoder"].get("name")), store.size,
            bf16_on_cpu=resolved.precision == "bf16-mixed" and not resolved.cuda,
        )  # fmt: skip
        chunk_size = _resolved(config, store, module, jobs).encoder_chunk_size
    for fold in asked:
        BagDataModule(data, cohort, None, folds, fold, config["seed"])
    return RunContext(
        cohort, store, folds, asked, fingerprint, settings, chunk_size, encoders, weights
    )


def new_module(
    config: dict[str, Any], clinical_dim: int, encoder: Path | None = None, **more: Any
) -> BagClassifier:
    """`encoder` is the file that `model.encoder.weights=pretrained` stands for."""
    model = config["model"]
    if gives_weights(config):
        weights = None if encoder is None else str(encoder)
        model = model | {"encoder": model["encoder"] | {"weights": weights}}
    return BagClassifier(model, config["optim"], config["scheduler"], clinical_dim, **more)


def fold_store(
    config: dict[str, Any], prepared: RunContext, fold: int, encoder: PretrainedEncoder | None
) -> ImageStore | FeatureStore | None:
    """What the fold's bags hold: features of its own encoder where that is pretrained."""
    rows = isinstance(prepared.store, FeatureStore)
    if not rows or prepared.encoders is None:
        return prepared.store
    return open_instance_store(config["model"], config["data"], prepared.cohort.images, encoder)[0]


def _weights_file(config: dict[str, Any]) -> Path | None:
    weights = (config["model"].get("encoder") or {}).get("weights")
    return Path(weights) if weights and Path(weights).is_file() else None


def _labelled(everybody: Cohort, data: dict[str, Any]) -> Cohort:
    cohort = everybody.labelled
    if cohort.table.empty:
        raise InputError(
            f"data.root={data['root']}: no patient has a label; data.label_column="
            f"{data['label_column']} must name the column that holds them"
        )
    return cohort


def _folds(config: dict[str, Any], cohort: Cohort, folder: Path) -> pd.DataFrame:
    """The user's folds, the run's if it has been begun, or new ones."""
    data, begun = config["data"], folder / "folds.csv"
    given = Path(data["folds_csv"]).expanduser() if data["folds_csv"] else None
    if given or begun.exists():
        return read_folds(given or begun, cohort.table, data["folds"], data["repeats"])
    return make_folds(cohort.table, data["folds"], data["repeats"], config["seed"])


def _open_images(
    config: dict[str, Any], cohort: Cohort, encoders: RunEncoders | None, fold: int
) -> tuple[ImageStore | FeatureStore | None, str]:
    """What the bags hold, None where the model looks at no image, and the cohort's fingerprint.

    Rows of encoders that differ from fold to fold are those of `fold`.
    """
    table = cohort.fingerprint()
    if not uses_images(config["model"]):
        return None, table
    made = None
    if encoders is not None and not gives_weights(config):
        made = encoders.get(fold)
    store, key = open_instance_store(config["model"], config["data"], cohort.images, made)
    data = config["data"]
    turns = ["augment.rotate"] if data["augment"]["rotate"] else []
    turns += ["eval_tta"] if data["eval_tta"] != 1 else []
    if isinstance(store, ImageStore) and turns and store.size[0] != store.size[1]:
        height, width = store.size
        raise InputError(
            f"data.{turns[0]} needs square images, these are {width} x {height}; set data.crop"
        )
    return store, f"{table[:16]}-{key[:16]}"


def _resolved(
    config: dict[str, Any], store: ImageStore, module: BagClassifier, jobs: int
) -> Resolved:
    data = config["data"]
    lengths = sorted(min(length, data["train_bag_size"] or length) for length in store.lengths)
    return resolve_hardware(
        config["trainer"], jobs, encoder=module.model.encoder,
        step_images=sum(lengths[-data["batch_size"] :]), image_size=store.size,
    )  # fmt: skip
