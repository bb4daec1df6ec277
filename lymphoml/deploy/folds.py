"""The models of a run that can be exported, with real bags to check their graphs on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lymphoml.core.errors import InputError
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.explain import bag
from lymphoml.features.pretraining.settings import PRETRAINED
from lymphoml.models.build import uses_clinical, uses_images
from lymphoml.runs.predict import check_run
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.trained_on import TrainedOn

CHECKED = 8  # patients


@dataclass(frozen=True)
class Folds:
    """The models of a run's folds, with the bags of some of its patients."""

    run: Path
    config: TrainConfig
    opened: Sequence[bag.Opened]
    trained_on: TrainedOn  # a fold of it

    @property
    def patients(self) -> list[str]:
        return list(self.opened[0].bags.cohort.table.index)

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        """What each clinical value must be, by column; of a model without these none."""
        data, encoder = self.config.data, self.opened[0].bags.clinical
        if not uses_clinical(self.config.model):
            return {}
        schema = self.opened[0].bags.cohort.schema
        found = {}
        for name in encoder.columns:
            column = data.columns[name]
            positive = column.kind == "numeric" and (column.positive or column.log)
            more = {"positive": positive, "may_be_missing": name in encoder.fill}
            found[name] = {**schema[name], **more}
        return found


def open_folds(run: Path, config: TrainConfig) -> Folds:
    """Return the models of a run that can be exported. Raises InputError, naming what cannot."""
    trained_on = check_run(run, config)
    reject_unexportable(run, config)
    cohort = load_cohort(config.data).labelled
    if cohort.table.empty:
        raise InputError(
            f"data.root={config.data.root}: no patient has a label; the graphs are compared with "
            f"the run on patients of its kind: give the cohort that it was trained on"
        )
    cohort = cohort.subset(spread(cohort))
    opened = [*bag.open_folds(run, config, cohort, list(trained_on), same=False)]
    return Folds(run, config, opened, next(iter(trained_on.values())))


def reject_unexportable(run: Path, config: TrainConfig) -> None:
    """Raise InputError for what a graph of one patient's images cannot do."""
    data = config.data
    if not uses_images(config.model):
        return
    for key, value, why in (
        ("stain_norm", data.stain_norm, "is fitted to each patient's images, in Python"),
        ("eval_bag_size", data.eval_bag_size, "draws images at random, and a graph takes all"),
    ):
        if value is not None:
            raise InputError(
                f"run {run}: data.{key}={value} {why}; it cannot be exported. Train a run with "
                f"data.{key}=null."
            )
    if PRETRAINED in data.features.blocks and config.pretrain is not None:
        raise InputError(
            f"run {run}: each fold's features come from an encoder that was pretrained for it; "
            f"such a run cannot be exported. Use the encoder as model.encoder.weights=pretrained."
        )


def spread(cohort: Cohort) -> list[str]:
    """Return CHECKED patients: those of the fewest and the most images, and between."""
    ids = sorted(cohort.table.index, key=lambda each: (len(cohort.images[each]), each))
    places = np.linspace(0, len(ids) - 1, min(CHECKED, len(ids))).round().astype(int)
    return [ids[place] for place in places]
