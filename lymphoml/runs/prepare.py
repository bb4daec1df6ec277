"""What the folds of a job have in common: read, checked and built before a run folder is made."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from lymphoml.core.errors import InputError
from lymphoml.data.cache import bags_digest
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.datamodule import BagDataModule
from lymphoml.data.device_store import DeviceStore
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.folds import make_folds, read_folds, training_split
from lymphoml.data.image_store import ImageStore
from lymphoml.data.settings import GROUPED
from lymphoml.data.sites import make_site_folds
from lymphoml.data.training_range import model_inputs
from lymphoml.features.blocks import PretrainedEncoder
from lymphoml.features.encoder_weights import check_inputs
from lymphoml.features.instance_store import check_features, open_instance_store
from lymphoml.features.pretraining import encoder_file
from lymphoml.features.pretraining import settings as pretraining
from lymphoml.features.pretraining.encoder_file import ENCODER, is_whole
from lymphoml.features.pretraining.train import pretrain_encoder
from lymphoml.models.build import uses_clinical, uses_images
from lymphoml.runs.fold_lock import fold_folder, is_done
from lymphoml.runs.known_patients import digest_patients, sample_images, without_persons
from lymphoml.runs.provenance import make_fingerprint, weights_file
from lymphoml.runs.run_folder import read_environment
from lymphoml.runs.settings import TrainConfig, reject_unused_options
from lymphoml.runs.trained_on import BAGS, PatientDigests, column_digests
from lymphoml.training.hardware import (
    Resolved,
    auto_chunk_size,
    configure_torch,
    keeps_images,
    resolve_hardware,
)
from lymphoml.training.input_size import check_input_size
from lymphoml.training.lightning_module import BagClassifier
from lymphoml.training.trainer import make_trainer

Store = ImageStore | FeatureStore


class RunEncoders:
    """Load, or pretrain on its training patients, the encoder of each fold.

    Each is kept in its fold's folder: a run needs no cache to be resumed or to predict.
    `config` is resolved, `cohort` has the labelled patients, `folds` is the table `patient, fold`.
    """

    def __init__(self, config: TrainConfig, cohort: Cohort, folds: pd.DataFrame, run: Path):
        assert config.pretrain is not None
        self.config, self.settings, self.run = config, config.pretrain, run
        self.cohort, self.folds = cohort, folds

    def check_stored(self, folds: Sequence[int]) -> None:
        """Raise InputError where the run stores an encoder of these folds with other settings."""
        for fold in folds:
            if is_whole(folder := fold_folder(self.run, fold)):
                encoder_file.assert_same_settings(folder, self.settings)

    def get(self, fold: int) -> PretrainedEncoder:
        """Return the encoder in the run folder, else in the cache, else pretrain it."""
        folder = fold_folder(self.run, fold)
        self.check_stored([fold])
        if not is_whole(folder):
            data, table = self.config.data, self.cohort.table
            train, _ = training_split(data, table, self.folds, fold, self.config.seed)
            images, cache = self.cohort.subset(train).images, data.cache
            folder = pretrain_encoder(self.settings, images, cache, self.config.trainer)
        return PretrainedEncoder(folder / ENCODER, self.settings)

    def store(self, fold: int) -> PretrainedEncoder:
        """Return the encoder and keep it in the fold's folder; the caller holds the fold's lock."""
        folder, encoder = fold_folder(self.run, fold), self.get(fold)
        if encoder.path.parent != folder:
            encoder_file.copy_encoder(encoder.path.parent, folder)
        return PretrainedEncoder(folder / ENCODER, self.settings)


def load_run_encoder(
    run: Path, fold: int, settings: pretraining.PretrainConfig
) -> PretrainedEncoder:
    """Return the fold's encoder in the run folder. Raises InputError: missing or corrupt."""
    folder = fold_folder(run, fold)
    if not is_whole(folder):
        raise InputError(
            f"{folder / ENCODER} is missing or corrupt; rerun the run's command "
            f"on the machine that trained it, or copy the whole run folder"
        )
    return PretrainedEncoder(folder / ENCODER, settings)


class RunData(NamedTuple):
    """What a run learns from."""

    cohort: Cohort  # labelled patients
    folds: pd.DataFrame  # patient, fold
    store: Store | None  # None where the model uses no images
    fingerprint: str  # of table and images, and of the rows' order where training follows it
    encoders: RunEncoders | None  # pretrained, where the configuration uses any
    inputs: pd.DataFrame | None  # what the model depends on; None where no fold is to be trained
    test_table: dict[str, str]  # of the patients without a label: see `TrainedOn`
    digests: dict[str, PatientDigests]  # to recognise the patients by, under any id


class RunContext(NamedTuple):
    """What the folds of a job have in common."""

    config: TrainConfig
    folder: Path
    data: RunData
    resolved: Resolved


def prepare(
    config: TrainConfig, folder: Path, parallel_jobs: int = 1, overrides: Sequence[str] = ()
) -> RunContext:
    """Read, check and build everything once, for one of `parallel_jobs`. Raises InputError.

    `overrides` are those of a single job, refused where they have no effect on this model.
    """
    check_features(config)
    config = pretraining.resolve_pretraining(config)
    if config.pretrain is not None and not uses_images(config.model):
        raise InputError("pretrained: has no effect: this model uses no images; leave it out")
    if config.pretrain is None:
        pretraining.refuse_pretraining(overrides)
    stored = read_environment(folder).get("resolved")
    resolved = resolve_hardware(config.trainer, parallel_jobs, stored)
    configure_torch(resolved)
    module = build_model(config, clinical_dim=1)
    _check_module(config, module, folder, overrides)
    data = load_data(config, folder)
    if isinstance(data.store, FeatureStore):
        build_model(config, 1, data.store)  # of this width
    elif (store := data.store) is not None:
        encoder, size = module.model.encoder, store.size
        chunk = resolved.encoder_chunk_size
        check_input_size(
            encoder, f"model.encoder={config.model['encoder'].get('name')}", size,
            fewest=1 if chunk in (1, 2) else _fewest_images(config, data, store),
            turned_by="data.augment.rotate" if config.data.augment.rotate
            else "data.eval_tta" if config.data.eval_tta != 1 else "",
            bf16_on_cpu=resolved.bf16_on_cpu,
        )  # fmt: skip
        if data.inputs is not None and module.automatic_optimization:  # trained, and by steps
            need, where = math.prod(store.shape), "cuda" if resolved.cuda else "cpu"
            if keeps_images(config.data.device_cache, need, resolved, parallel_jobs):
                data = data._replace(store=DeviceStore(store, torch.device(where)))
        if config.trainer.encoder_chunk_size == "auto" and stored is None:
            bag_size = config.data.train_bag_size
            lengths = sorted(min(length, bag_size or length) for length in store.lengths)
            images = sum(lengths[-config.data.batch_size :])  # of the largest step
            chunk = auto_chunk_size(encoder, images, size, resolved, parallel_jobs)
            resolved = replace(resolved, encoder_chunk_size=chunk)
    return RunContext(config, folder, data, resolved)


def load_data(config: TrainConfig, folder: Path) -> RunData:
    """Return cohort, folds and what the bags hold; of encoders pretrained per fold one's."""
    data = config.data
    cohort = load_cohort(data)
    test = cohort.unlabelled
    cohort, test_table = cohort.labelled, column_digests(test)
    if cohort.table.empty:
        raise InputError(
            f"data.root={data.root}: no patient has a label. Set data.label_column to the column "
            f"that holds them; it is {data.label_column}."
        )
    folds = _folds(config, cohort, folder)
    constant = {
        fold: BagDataModule(data, cohort, None, folds, fold, config.seed).clinical.constant
        for fold in config.folds_to_train
    }
    for name in dict.fromkeys(name for names in constant.values() for name in names):
        where = [str(fold) for fold, names in constant.items() if name in names]
        place = f"fold{'s' * (len(where) > 1)} {', '.join(where)}, where it gets no weight"
        print(f"data.clinical: {name} is the same for all training patients of {place}")
    if (weights := weights_file(config)) is not None:
        check_inputs(weights, data)
    unfinished = [fold for fold in config.folds_to_train if not is_done(folder, fold)]
    encoders = None
    if config.pretrain is not None:
        encoders = RunEncoders(config, cohort, folds, folder)
        encoders.check_stored(unfinished)
    key, store, encoder = None, None, None
    images = uses_images(config.model)
    if images:
        test_table[BAGS] = bags_digest(data, test.images)
        cohort.print_unused()
        if encoders is not None and not pretraining.gives_weights(config):
            encoder = encoders.get((unfinished or config.folds_to_train)[0])
        store, key = open_instance_store(data, cohort.images, encoder)
    fingerprint = make_fingerprint(cohort, key, data.shuffle)
    inputs, known = None, {}
    if unfinished:
        inputs = model_inputs(cohort, data, uses_clinical(config.model), images)
        by_id = data.person_column == data.id_column  # other hospitals give the same ids
        people = without_persons(cohort) if by_id else cohort
        known = sample_images(digest_patients(data, people, fingerprint, images))
    return RunData(cohort, folds, store, fingerprint, encoders, inputs, test_table, known)


def build_model(
    config: TrainConfig, clinical_dim: int, store: Store | None = None,
    encoder: Path | None = None, **options: Any,
) -> BagClassifier:  # fmt: skip
    """Return the module of a fold, its encoder as wide as the features in `store`.

    `encoder` is the file that `model.encoder.weights=pretrained` stands for.
    """
    model = config.model
    if isinstance(store, FeatureStore):
        options["feature_dim"] = len(store.names)
    if pretraining.gives_weights(config):
        weights = None if encoder is None else str(encoder)
        model = model | {"encoder": model["encoder"] | {"weights": weights}}
    return BagClassifier(model, config.optim, config.scheduler, clinical_dim, **options)


def fold_store(run: RunContext, encoder: PretrainedEncoder | None) -> Store | None:
    """Return what a fold's bags hold: features of its own encoder where that is pretrained."""
    if not isinstance(run.data.store, FeatureStore) or encoder is None:
        return run.data.store
    return open_instance_store(run.config.data, run.data.cohort.images, encoder)[0]


def _check_module(
    config: TrainConfig, module: BagClassifier, folder: Path, overrides: Sequence[str]
) -> None:
    """Raise InputError where fusion, optimiser, scheduler or trainer do not fit."""
    if module.model.fusion.fits_images:
        if module.automatic_optimization:
            raise InputError(
                "model/fusion=additive_fitted and stacking are fitted once, to an encoder and a "
                "pooling that do not learn, and these learn. Set model/fusion=additive, or an "
                "encoder of features."
            )
        reject_unused_options(config, overrides)
    _reject_unused_words(config, overrides)
    module.configure_optimizers()
    make_trainer(config.trainer, folder, logger=False, callbacks=[])


def _reject_unused_words(config: TrainConfig, overrides: Sequence[str]) -> None:
    """Raise InputError for words that this model does not read; presets may set the same."""
    images = uses_images(config.model)
    cycles = str(config.scheduler.get("_target_")).endswith(".OneCycleLR")
    cycles &= config.scheduler.get("cycle_momentum", True)
    for applies, keys, why in (
        (config.data.holds_features or not images,
         r"data\.(crop|resize|normalize_images|augment)", "this model uses no pixels"),
        (not images, r"data\.((train|eval)_bag_size|shuffle_bag_labels|features)|data/features"
         r"|model\.instance_dropout|model[./](encoder|pooling)", "this model uses no images"),
        (cycles, r"optim\.momentum",
         "the scheduler sets it; add +scheduler.cycle_momentum=false"),
    ):  # fmt: skip
        unused = [word for word in overrides if re.match(rf"[+~]*({keys})\b", word)]
        if applies and unused:
            raise InputError(f"{', '.join(unused)}: has no effect: {why}")


def _folds(config: TrainConfig, cohort: Cohort, folder: Path) -> pd.DataFrame:
    """The user's folds, those of an existing run, or new ones."""
    data, existing = config.data, folder / "folds.csv"
    if data.site_folds:
        return make_site_folds(cohort)
    given = Path(data.folds_csv).expanduser() if data.folds_csv else None
    table, grouped = cohort.table.loc[cohort.in_table_order], data.splitter == GROUPED
    if given or existing.exists():
        return read_folds(given or existing, table, data.folds, data.repeats, grouped)
    seed = config.seed if data.fold_seed is None else data.fold_seed
    return make_folds(table, data.folds, data.repeats, seed, grouped)


def _fewest_images(config: TrainConfig, data: RunData, store: ImageStore) -> int:
    """Return how many images the smallest step of a fold's training may have."""
    most, size = config.data.train_bag_size, config.data.batch_size
    lengths = dict(zip(store.patients, store.lengths, strict=True))
    fewest = []
    for fold in config.folds_to_train:
        bags = BagDataModule(config.data, data.cohort, None, data.folds, fold, config.seed)
        ordered = sorted(min(lengths[each], most or lengths[each]) for each in bags.train_patients)
        fewest.append(sum(ordered[: len(ordered) % size or size]))  # the last step may be smaller
    return min(fewest)
