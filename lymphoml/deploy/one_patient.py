"""The answer for one patient, by a run or an exported model: the numbers that a table gives."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, printable, quoted
from lymphoml.data.cohort import Cohort
from lymphoml.data.decoding import ImageProblem, read_image
from lymphoml.data.image_statistics import STATISTICS, mean_statistics
from lymphoml.data.one_patient import PATIENT, cohort_of_one, one_row
from lymphoml.data.problems import shortened
from lymphoml.data.settings import DataConfig
from lymphoml.data.training_range import IMAGE
from lymphoml.deploy.predict import shift_of
from lymphoml.evaluation.cross_conformal import new_scores
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.prediction_folder import summarize

if TYPE_CHECKING:
    from lymphoml.deploy.runtime import ExportedModel
    from lymphoml.runs.settings import TrainConfig

CELLS = 5  # of largest effect that are shown
RESEARCH = "For research only, not a medical device."
NO_RULE = "no rule-out rule was set for this model"


@dataclass(frozen=True)
class Cell:
    """What the patient's logit loses without an image, the `number`th of those given."""

    image: str  # its file's name
    number: int
    effect: float  # above 0 for tumoral


@dataclass(frozen=True)
class Answer:
    """What the models of all folds say of a patient."""

    probability: float
    lowest: float
    highest: float
    models: int
    called: str  # tumoral or reactive
    decision: str | None  # rule_out or test; None without a rule
    reason: str
    warnings: list[str]
    cells: list[Cell]  # of largest effect first
    notice: str = RESEARCH

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Return what a terminal shows."""
        spread = f"{self.lowest:.3f} to {self.highest:.3f} over {self.models} models"
        decision = f"{self.decision}: " if self.decision else ""
        shown = self.cells[:CELLS]
        return [
            f"probability of tumoral {self.probability:.3f} ({spread}); called {self.called}",
            f"{decision}{self.reason}",
            *(f"warning: {each}" for each in self.warnings),
            *(["cells that moved the logit most (above 0 for tumoral):"] if shown else []),
            *(f"  {cell.effect:+.3f}  {cell.image}" for cell in shown),
            self.notice,
        ]


def answer(
    probabilities: pd.DataFrame, shift: CohortShift,
    rule: Callable[[pd.DataFrame], pd.Series] | None, sensitivity: float | None,
    effects: Sequence[tuple[str, float]],
) -> Answer:  # fmt: skip
    """Return the answer for `probabilities` of one patient (row) by each fold's model (column).

    `rule` decides from them, infinite where the patient lies outside a model's training range.
    `effects` are of all images, by name, in their order; empty where they are not known.
    """
    outside = shift.outside(probabilities)
    row = summarize(probabilities, outside).iloc[0]
    warnings = sorted({each for each in outside.to_numpy().ravel() if each})
    decision, reason = None, NO_RULE
    if rule is not None:
        decision = str(rule(new_scores(probabilities, outside)).iloc[0])
        below = "lies" if decision == "rule_out" else "does not lie"
        reason = f"{below} below the rule for sensitivity {sensitivity:g}"
        if warnings:
            reason = "outside the range of the training patients, who alone can be ruled out"
    cells = [Cell(name, number, effect) for number, (name, effect) in enumerate(effects)]
    return Answer(
        float(row["probability"]), float(row["lowest"]), float(row["highest"]),
        int(probabilities.notna().sum(axis=1).iloc[0]),
        "tumoral" if row["label"] else "reactive",
        decision, reason, warnings, sorted(cells, key=lambda cell: -abs(cell.effect)),
    )  # fmt: skip


def answer_by_run(
    run: Path, members: "Mapping[Path, TrainConfig]", images: Path | None, values: Mapping[str, str]
) -> Answer:
    """Return the answer of a run's models, `members` as in `predict`; nothing is kept on disk."""
    from lymphoml.models.build import uses_clinical, uses_images
    from lymphoml.runs.known_patients import without_trained
    from lymphoml.runs.predict import check_run, choose_patients, mean_over_members
    from lymphoml.runs.triage_rule import apply_rule, read_rule

    trained_on = {member: check_run(member, config) for member, config in members.items()}
    used = {member: uses_images(config.model) for member, config in members.items()}
    _check_images(images, any(used.values()))
    columns = {member: config.data.clinical if uses_clinical(config.model) else []
               for member, config in members.items()}  # fmt: skip
    asked = dict.fromkeys(name for names in columns.values() for name in names)
    if unknown := sorted(values.keys() - asked.keys()):
        listed = ", ".join(asked) or "none"
        raise InputError(f"{quoted(each, 60)}: the run's clinical values are {listed}"
                         for each in unknown)  # fmt: skip
    rule, shift = read_rule(run), CohortShift()
    with TemporaryDirectory(prefix="lymphoml-") as folder:
        cohorts, configs = {}, {}
        for member, config in members.items():
            if config.data.feature_file is not None:
                raise InputError(f"run {member}: reads feature vectors from a file, not images")
            if used[member] and (size := config.data.eval_bag_size) is not None:
                raise InputError(
                    f"run {member}: data.eval_bag_size={size} draws images by the patient's id; "
                    f"give a table of one row, data.root=DIR"
                )
            configs[member] = config.replace({"data.cache": folder})
            seen = images if used[member] else None
            own = {name: values[name] for name in columns[member] if name in values}
            cohorts[member] = (
                cohort_of_one(config.data, seen, own) if columns[member]
                else _cohort_of_images(config.data, seen)
            )  # fmt: skip
        chosen, known = choose_patients(configs, cohorts, trained_on, "unlabelled", False)
        probabilities = mean_over_members(configs, chosen, trained_on, shift)
        probabilities = without_trained(probabilities, known, own=False)
        effects: list[tuple[str, float]] = []
        if list(members) == [run]:
            folds = [*probabilities.columns[probabilities.notna().iloc[0]]]
            effects = _effects_by_run(run, configs[run], chosen[run], folds)
    apply = None if rule is None else lambda scores: apply_rule(run, rule, scores)
    return answer(probabilities, shift, apply, (rule or {}).get("sensitivity"), effects)


def _cohort_of_images(data: DataConfig, images: Path | None) -> Cohort:
    """Return the patient with any clinical values, which the model does not read."""
    cohort = cohort_of_one(data.replace({"missing": "impute"}), images, {})
    unread = {name: each.get("categories", [1.0])[0] for name, each in cohort.schema.items()}
    return replace(cohort, table=cohort.table.assign(**unread))


def _check_images(images: Path | None, used: bool) -> None:
    if images is not None and not used:
        raise InputError(f"images={images}: the model uses no images; give images=null")
    if images is None and used:
        raise InputError("images=null: the model needs the patient's images; give images=DIR")


def _effects_by_run(
    run: Path, config: "TrainConfig", cohort: Cohort, folds: list[int]
) -> list[tuple[str, float]]:
    """Return what each image does to the logit, mean over models; none of a single image."""
    from lymphoml.explain.bag import effects, open_folds
    from lymphoml.explain.tables import LEAVE_ONE_OUT

    names = [path.name for path in cohort.images[PATIENT]]
    if len(names) < 2:
        return []
    found = [
        values
        for opened in open_folds(run, config, cohort, folds, same=False)
        for _, values, _ in effects(opened.bag(PATIENT), [LEAVE_ONE_OUT])
    ]
    return [*zip(names, np.mean(found, axis=0).tolist(), strict=True)]


def answer_by_model(
    model: "ExportedModel", data: DataConfig, images: Path | None, values: Mapping[str, str]
) -> Answer:
    """Return the answer of an exported model, without torch. Raises InputError."""
    require_images(model)
    _check_images(images, model.uses_images)
    cohort = cohort_of_one(data, images, values)
    cohort.print_unused()
    paths = cohort.images[PATIENT]
    files = [(path.name, partial(read_image, path)) for path in paths]
    return answer_of_files(model, data, files, dict(cohort.table.loc[PATIENT]))


def require_images(model: "ExportedModel") -> None:
    """Raise InputError for a model of feature vectors: one patient's are made by a run."""
    if model.features:
        how = (
            "which a file of yours holds; give a table, data.root=DIR"
            if model.trained_on.features_file
            else "which lymphoml computes; give run=RUN images=DIR to predict.py"
        )
        raise InputError(f"model={model.folder}: reads feature vectors, {how}")


def answer_of_files(
    model: "ExportedModel", data: DataConfig, files: Sequence[tuple[str, Callable[[], bytes]]],
    row: Mapping[str, Any],
) -> Answer:  # fmt: skip
    """Return the answer for files by name, in their order, and for values as `read_values` gives.

    Raises InputError, which names each file that is no image.
    """
    from lymphoml.runs.triage_rule import apply_portable

    problems: list[str] = []
    features = None
    try:
        features = model.encode(_decoded(model, files, problems)) if model.uses_images else None
    except InputError:
        if not problems:  # else none of them is an image
            raise
    if problems:
        raise InputError(shortened(problems))
    row = {name: row[name] for name in model.columns}
    by_fold = model.classify(features, row).by_fold
    rule, inputs = model.rule, one_row(data, row)
    if model.uses_images:
        names = [f"{IMAGE}{name}" for name in STATISTICS]
        inputs[names] = [mean_statistics([read for _, read in files])]
    shift = shift_of(model, inputs)
    effects = []
    if features is not None and len(files) > 1:
        for place, (name, _) in enumerate(files):
            rest = model.classify(np.delete(features, place, axis=1), row).by_fold
            effects.append((name, float(np.mean(_logit(by_fold) - _logit(rest)))))
    apply = None if rule is None else lambda scores: apply_portable(rule, scores)
    probabilities = pd.DataFrame([by_fold], [PATIENT], model.folds)
    return answer(probabilities, shift, apply, (rule or {}).get("sensitivity"), effects)


def _decoded(
    model: "ExportedModel", files: Sequence[tuple[str, Callable[[], bytes]]], problems: list[str]
) -> Iterator[np.ndarray]:
    """Yield the images; add a line to `problems` for each file that is none."""
    for name, read in files:
        try:
            yield model.decode(read())
        except ImageProblem as problem:
            problems.append(f"image {printable(name)}: {problem}")


def _logit(probability: np.ndarray) -> np.ndarray:
    smallest = np.finfo(np.float64).tiny
    return np.log(np.maximum(probability, smallest)) - np.log(np.maximum(1 - probability, smallest))
