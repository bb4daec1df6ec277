"""The encoder that a run's folds share, or that each has of its own, in the run's own folder.

So a run needs no cache to be gone on with or to predict, and keeps its encoder whatever becomes of
the cache.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError
from lymphoml.data.cohort import Cohort
from lymphoml.data.folds import split
from lymphoml.features.extractors import PretrainedEncoder
from lymphoml.features.pretraining.encoder_file import (
    ENCODER,
    assert_same_settings,
    copy_encoder,
    is_whole,
)
from lymphoml.features.pretraining.train import pretrained
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.run_folder import run_lock


class Encoders:
    """Made where neither run folder nor cache holds them.

    `settings` is the settled group `pretrain`, `everybody` the cohort with its unlabelled patients,
    `folds` the table `patient, fold`.
    """

    def __init__(
        self,
        config: dict[str, Any],
        settings: dict[str, Any],
        everybody: Cohort,
        folds: Any,
        run: Path,
    ):
        self.config, self.settings, self.run = config, settings, run
        self.everybody, self.folds = everybody, folds

    @property
    def one_a_fold(self) -> bool:
        return self.settings["scope"] == "fold"

    def refuse_drifted(self, folds: Sequence[int]) -> None:
        """Raises InputError where the run holds one of these folds' made by other settings."""
        for place in {carried_in(self.run, fold, self.settings) for fold in folds}:
            if is_whole(place):
                assert_same_settings(place, self.settings)

    def of(self, fold: int) -> PretrainedEncoder:
        """The run's, if it holds one already."""
        place = carried_in(self.run, fold, self.settings)
        if not is_whole(place):
            return PretrainedEncoder(self._made(fold) / ENCODER, self.settings)
        assert_same_settings(place, self.settings)  # another process may have carried it since
        return PretrainedEncoder(place / ENCODER, self.settings)

    def carried(self, fold: int) -> PretrainedEncoder:
        """Likewise, in the run's own folder from now on; the caller holds the fold."""
        place = carried_in(self.run, fold, self.settings)
        made = self.of(fold)
        if made.path.parent != place:
            with run_lock(self.run):
                if not is_whole(place):  # another fold's process may have carried it
                    copy_encoder(made.path.parent, place)
        return PretrainedEncoder(place / ENCODER, self.settings)

    def _made(self, fold: int) -> Path:
        table = self.everybody.table
        patients = set(self.everybody.labelled.table.index)
        held_out: list[str] = []
        if self.one_a_fold:
            learned, held_out = split(self.folds, fold, self.config["data"]["folds"])
            patients = set(learned)
        if self.settings["include_test"]:  # but for other records of the persons held out
            theirs = table["group"].isin(table.loc[held_out, "group"])
            patients |= set(self.everybody.unlabelled.table.index) - set(table.index[theirs])
        images = self.everybody.subset(patients).images
        return pretrained(
            self.settings, images, self.config["data"]["cache"], self.config["trainer"]
        )


def carried_in(run: Path, fold: int, settings: dict[str, Any]) -> Path:
    """The folder of the run in which the fold's encoder lies."""
    return fold_folder(run, fold) if settings["scope"] == "fold" else run


def carried_by(run: Path, fold: int, settings: dict[str, Any]) -> PretrainedEncoder:
    """The fold's encoder as the run holds it; InputError where it is missing or damaged."""
    place = carried_in(run, fold, settings)
    if not is_whole(place):
        raise InputError(
            f"{place / ENCODER} is missing, or not what its run wrote; give the run's command "
            f"again on the machine that trained it, or take the whole run folder along"
        )
    return PretrainedEncoder(place / ENCODER, settings)
