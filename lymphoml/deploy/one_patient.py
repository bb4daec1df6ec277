"""The answer for one patient, by a run or an exported model: the numbers that a table gives."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.data.cohort import Cohort
from lymphoml.data.one_patient import PATIENT, cohort_of_one
from lymphoml.data.settings import DataConfig
from lymphoml.data.training_range import model_inputs
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.prediction_folder import summarize

if TYPE_CHECKING:
    from lymphoml.deploy.runtime import ExportedModel
    from lymphoml.runs.settings import TrainConfig

CELLS = 5  # of largest effect that are shown
RESEARCH = "For research only, not a medical device."
NO_RULE = "no rule-out rule was set for this model"


@dataclass(frozen=True)
class Answer:
    """What the models of all folds say of a patient; `effects` are in logits, by file name."""

    probability: float
    lowest: float
    highest: float
    models: int
    called: str  # tumoral or reactive
    decision: str | None  # rule_out or test; None without a rule
    reason: str
    warnings: tuple[str, ...]
    effects: tuple[tuple[str, float], ...]  # above 0 for tumoral, the largest first

    def to_dict(self) -> dict[str, Any]:
        cells = [{"image": image, "effect": effect} for image, effect in self.effects]
        return {key: each for key, each in asdict(self).items() if key != "effects"} | {
            "warnings": list(self.warnings), "cells": cells, "notice": RESEARCH,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """Return what a terminal shows."""
        spread = f"{self.lowest:.3f} to {self.highest:.3f} over {self.models} models"
        decision = f"{self.decision}: " if self.decision else ""
        shown = self.effects[:CELLS]
        return [
            f"probability of tumoral {self.probability:.3f} ({spread}); called {self.called}",
            f"{decision}{self.reason}",
            *(f"warning: {each}" for each in self.warnings),
            *(["cells that moved the logit most (above 0 for tumoral):"] if shown else []),
            *(f"  {effect:+.3f}  {image}" for image, effect in shown),
            RESEARCH,
        ]


def answer(
    probabilities: pd.DataFrame, shift: CohortShift,
    rule: Callable[[pd.DataFrame], pd.Series] | None, sensitivity: float | None,
    effects: Mapping[str, float],
) -> Answer:  # fmt: skip
    """Return the answer for `probabilities` of one patient (row) by each fold's model (column).

    `rule` decides from them, infinite where the patient lies outside a model's training range.
    """
    outside = shift.outside(probabilities)
    row = summarize(probabilities, outside).iloc[0]
    warnings = sorted({each for each in outside.to_numpy().ravel() if each})
    decision, reason = None, NO_RULE
    if rule is not None:
        decision = str(rule(probabilities.mask(outside != "", np.inf)).iloc[0])
        below = "lies" if decision == "rule_out" else "does not lie"
        reason = f"{below} below the rule for sensitivity {sensitivity:g}"
        if warnings:
            reason = "outside the range of the training patients, who alone can be ruled out"
    order = sorted(effects.items(), key=lambda each: (-abs(each[1]), each[0]))
    return Answer(
        float(row["probability"]), float(row["lowest"]), float(row["highest"]),
        int(probabilities.notna().sum(axis=1).iloc[0]),
        "tumoral" if row["label"] else "reactive",
        decision, reason, tuple(warnings), tuple(order),
    )  # fmt: skip


def answer_by_run(
    run: Path, members: "Mapping[Path, TrainConfig]", images: Path | None, values: Mapping[str, str]
) -> Answer:
    """Return the answer of a run's models, `members` as in `predict`; nothing is kept on disk."""
    from lymphoml.models.build import uses_images
    from lymphoml.runs.known_patients import without_trained
    from lymphoml.runs.predict import check_run, choose_patients, mean_over_members
    from lymphoml.runs.triage_rule import apply_rule, read_rule

    trained_on = {member: check_run(member, config) for member, config in members.items()}
    rule, shift = read_rule(run), CohortShift()
    with TemporaryDirectory(prefix="lymphoml-") as folder:
        cohorts, configs = {}, {}
        for member, config in members.items():
            if config.data.feature_file is not None:
                raise InputError(f"run {member}: reads feature vectors from a file, not images")
            configs[member] = config.replace({"data.cache": folder})
            needed = images if uses_images(config.model) else None
            cohorts[member] = _cohort(config.data, images, needed, values)
        chosen, known = choose_patients(configs, cohorts, trained_on, "unlabelled", False)
        probabilities = mean_over_members(configs, chosen, trained_on, shift)
        probabilities = without_trained(probabilities, known, own=False)
        effects: dict[str, float] = {}
        if list(members) == [run]:
            used = [*probabilities.columns[probabilities.notna().iloc[0]]]
            effects = _effects_by_run(run, configs[run], chosen[run], used)
    apply = None if rule is None else lambda scores: apply_rule(run, rule, scores)
    return answer(probabilities, shift, apply, (rule or {}).get("sensitivity"), effects)


def _cohort(
    data: DataConfig, images: Path | None, needed: Path | None, values: Mapping[str, str]
) -> Cohort:
    if images is not None and needed is None:
        raise InputError(f"images={images}: the model uses no images; give images=null")
    return cohort_of_one(data, needed, values)


def _effects_by_run(
    run: Path, config: "TrainConfig", cohort: Cohort, folds: list[int]
) -> dict[str, float]:
    """Return what each image does to the logit, mean over models; none of a single image."""
    from lymphoml.explain.bag import effects, open_folds
    from lymphoml.explain.tables import LEAVE_ONE_OUT

    names = [path.name for path in cohort.images[PATIENT]]
    if len(names) < 2:
        return {}
    found = [
        values
        for opened in open_folds(run, config, cohort, folds, same=False)
        for _, values, _ in effects(opened.bag(PATIENT), [LEAVE_ONE_OUT])
    ]
    return dict(zip(names, np.mean(found, axis=0).tolist(), strict=True))


def answer_by_model(
    model: "ExportedModel", data: DataConfig, images: Path | None, values: Mapping[str, str]
) -> Answer:
    """Return the answer of an exported model, without torch. Raises InputError."""
    from lymphoml.runs.triage_rule import apply_portable

    cohort = _cohort(data, images, images if model.uses_images else None, values)
    given, paths = dict(cohort.table.loc[PATIENT]), cohort.images[PATIENT]
    features = model.encode(model.read_images(paths))
    by_fold = model.classify(features, given).by_fold
    folds, rule, shift = model.folds, model.rule, CohortShift()
    probabilities = pd.DataFrame([by_fold], [PATIENT], folds)
    inputs = model_inputs(cohort, data, bool(model.columns), model.uses_images)
    for fold, ranges in zip(folds, model.ranges, strict=True):
        shift.add(fold, inputs, ranges)
    effects: dict[str, float] = {}
    if features is not None and len(paths) > 1:
        for place, path in enumerate(paths):
            rest = model.classify(np.delete(features, place, axis=1), given).by_fold
            effects[path.name] = float(np.mean(_logit(by_fold) - _logit(rest)))
    apply = None if rule is None else lambda scores: apply_portable(rule, scores)
    return answer(probabilities, shift, apply, (rule or {}).get("sensitivity"), effects)


def _logit(probability: np.ndarray) -> np.ndarray:
    smallest = np.finfo(np.float64).tiny
    return np.log(np.maximum(probability, smallest)) - np.log(np.maximum(1 - probability, smallest))
