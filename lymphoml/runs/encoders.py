"""The encoder that each of a run's folds pretrains, kept in the fold's own folder.

So a run needs no cache to be resumed or to predict.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import split
from lymphoml.features.blocks import PretrainedEncoder
from lymphoml.features.pretraining.encoder_file import (
    ENCODER,
    assert_same_settings,
    copy_encoder,
    is_whole,
)
from lymphoml.features.pretraining.settings import PretrainConfig
from lymphoml.features.pretraining.train import pretrain_encoder
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.settings import TrainConfig


class RunEncoders:
    """Load, or pretrain on its training patients, the encoder of each fold.

    `config` is resolved, `cohort` has the labelled patients, `folds` is the table `patient, fold`.
    """

    def __init__(self, config: TrainConfig, cohort: Cohort, folds: pd.DataFrame, run: Path):
        assert config.pretrain is not None
        self.config, self.settings, self.run = config, config.pretrain, run
        self.cohort, self.folds = cohort, folds

    def check_stored(self, folds: Sequence[int]) -> None:
        """Raise InputError where the run stores an encoder of these folds with other settings."""
        for fold in folds:
            folder = fold_folder(self.run, fold)
            if is_whole(folder):
                assert_same_settings(folder, self.settings)

    def get(self, fold: int) -> PretrainedEncoder:
        """Return the encoder in the run folder, else in the cache, else pretrain it."""
        folder = fold_folder(self.run, fold)
        if is_whole(folder):
            assert_same_settings(folder, self.settings)
        else:
            train, _ = split(self.folds, fold, self.config.data.folds)
            images, cache = self.cohort.subset(train).images, self.config.data.cache
            folder = pretrain_encoder(self.settings, images, cache, self.config.trainer)
        return PretrainedEncoder(folder / ENCODER, self.settings)

    def store(self, fold: int) -> PretrainedEncoder:
        """Return the encoder and keep it in the fold's folder; the caller holds the fold's lock."""
        folder, encoder = fold_folder(self.run, fold), self.get(fold)
        if encoder.path.parent != folder:
            copy_encoder(encoder.path.parent, folder)
        return PretrainedEncoder(folder / ENCODER, self.settings)


def load_run_encoder(run: Path, fold: int, settings: PretrainConfig) -> PretrainedEncoder:
    """Return the fold's encoder in the run folder. Raises InputError: missing or corrupt."""
    folder = fold_folder(run, fold)
    if not is_whole(folder):
        raise InputError(
            f"{folder / ENCODER} is missing or corrupt; rerun the run's command "
            f"on the machine that trained it, or copy the whole run folder"
        )
    return PretrainedEncoder(folder / ENCODER, settings)
