"""Explain a run's patients by the models that did not train on them: cells, pixels, measures."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write, sha256, write_csv, write_json
from lymphoml.core.progress import progress_bar
from lymphoml.core.seeding import keyed_seed
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.datamodule import BagDataModule
from lymphoml.explain import measures
from lymphoml.explain.bag import Bag, Opened, effects, open_folds
from lymphoml.explain.checks import (
    CHECKS,
    MOST_PLACED,
    RUN,
    Checks,
    ControlRun,
    plan_checks,
    some_patients,
)
from lymphoml.explain.faithfulness import print_summary, write_faithfulness
from lymphoml.explain.parts import OF_MAPS, OF_MEASURES, OF_PATIENTS, draw, join
from lymphoml.explain.tables import (
    FOLDER,
    LEAVE_ONE_OUT,
    OF_CELLS,
    OF_PIXELS,
    PARTS,
    SETTINGS,
    strongest,
)
from lymphoml.features.instance_store import open_instance_store
from lymphoml.models.build import build_model, uses_images, weighs_images
from lymphoml.runs.checksums import SUMS
from lymphoml.runs.predict import check_feature_file, check_run
from lymphoml.runs.prediction_folder import cohort_digest
from lymphoml.runs.run_folder import read_folds_csv
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.trained_on import TrainedOn

MEASURES = "measures"
METHODS = (*OF_CELLS, *OF_PIXELS, MEASURES)


@dataclass
class Explainer:
    """`methods` for patients of `cohort`; what a fold's model says of them is kept in a part."""

    run: Path
    config: TrainConfig
    methods: Sequence[str]
    folder: Path
    training: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # by fold
    groups: list[str] = field(default_factory=list)  # of the measures
    checks: Checks | None = None

    def explain_fold(self, opened: Opened, patients: Sequence[str], part: Path) -> None:
        """Write the part's measures, patients and maps, where there are any, then its cells."""
        found: dict[str, list[pd.DataFrame]] = {OF_MEASURES: [], OF_PATIENTS: [], ".csv": []}
        places = opened.places(self.methods)
        held_out = self.checks.held_out.get(opened.fold, ()) if self.checks else ()
        checked: list[pd.DataFrame] = []
        arrays = {method: np.array(place) for method, place in places.items()}
        with progress_bar(f"fold {opened.fold}", len(patients), "patients") as bar:
            for patient in patients:
                names = [path.name for path in opened.bags.cohort.images[patient]]
                bag = opened.bag(patient)
                said = [*effects(bag, self.methods)]
                for method, values, pixels in said:
                    rows = {"patient": patient, "image": names, "method": method, "effect": values}
                    found[".csv"].append(pd.DataFrame(rows))
                    if pixels is not None:
                        arrays[f"{method}/{patient}"] = pixels.astype(np.float32)
                    if method == LEAVE_ONE_OUT:
                        found[OF_PATIENTS].append(self._logits(bag, values))
                if MEASURES in self.methods:
                    found[OF_MEASURES].append(self._measures(opened, bag))
                if patient in held_out:
                    checked.append(self.checks.rows(RUN, opened, bag, said))  # type: ignore[union-attr]
                bar.advance()
        if arrays:
            with atomic_write(part.with_name(part.name + OF_MAPS)) as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        if checked:
            write_csv(self.folder / CHECKS / f"{part.name}.csv", pd.concat(checked), private=True)
        nothing = pd.DataFrame(columns=["patient", "image", "method", "effect"])
        for ending, tables in found.items():
            if tables or ending == ".csv":
                table = pd.concat(tables or [nothing])
                write_csv(part.with_name(part.name + ending), table, private=True)

    @staticmethod
    def _logits(bag: Bag, values: np.ndarray) -> pd.DataFrame:
        """Return the bag's logit, and that without the images of largest effect, as `tables` has.

        NaN where no image would be left.
        """
        row: dict[str, Any] = {"patient": bag.patient, "logit": bag.logit}
        names = "without_for", "without_against"
        for name, images in zip(names, strongest(values), strict=True):
            rest = np.setdiff1d(np.arange(len(values)), images)
            row[name] = bag.logits([rest])[0] if len(rest) else np.nan
        return pd.DataFrame([row])

    def fit_measures(self, opened: Opened, known: Collection[str]) -> None:
        """Keep the mean bag and clinical values of a fold's training patients, `known`.

        Groups are of all labelled patients: without labels, and the same in all folds.
        """
        store: Any = opened.bags.store
        patients = list(opened.bags.cohort.table.index)
        bags = np.stack(
            [measures.describe(opened.model, opened.bag(each).vectors) for each in patients]
        )
        clinical = torch.stack([opened.clinical(each) for each in patients]).double().numpy()
        trained = np.isin(patients, list(known))
        self.training[opened.fold] = bags[trained].mean(axis=0), clinical[trained].mean(axis=0)
        columns = measures.bag_columns(opened.model, store.names)
        self.groups = self.groups or measures.group_measures(columns, bags)

    def _measures(self, opened: Opened, bag: Bag) -> pd.DataFrame:
        model, vectors, clinical = bag.model, bag.vectors, bag.clinical
        means = self.training[opened.fold]
        if measures.is_linear(model):
            table, rest = measures.contributions(
                measures.linear_model(model), measures.describe(model, vectors),
                clinical.double().numpy(), *means, self.groups,
            )  # fmt: skip
        else:
            seed = keyed_seed(self.config.seed, "explain", bag.patient)
            table, rest = measures.shapley(model, vectors, clinical, *means, self.groups, seed)
        table = table.sort_values("contribution", key=np.abs, ascending=False, kind="stable")
        clinical_rows = pd.DataFrame(rest, opened.bags.clinical.names[: len(rest)], table.columns)
        rows = pd.concat([table, clinical_rows]).rename_axis("measure").reset_index()
        return rows.assign(patient=bag.patient)


def explain(
    run: Path, config: TrainConfig, patients: str | Sequence[str] = "all",
    methods: Sequence[str] = ("leave_one_out",), pictures: int = 0, out: Path | None = None,
    checks: bool = False, control: ControlRun | None = None, truth: Path | None = None,
) -> Path:  # fmt: skip
    """Write the files of `tables`, maps and pictures below RUN/explanations; return it.

    `patients`: ids, "all", or "sample", the labelled ones on whose images the places are checked.
    A labelled patient is explained by the models that did not train on that patient, one a repeat;
    an unlabelled one by all. Given are the mean over models and their
    standard deviation. All images count, also where `data.eval_bag_size` is set. Of methods of
    pixels the `pictures` images of largest effect are drawn. With `checks`, also writes and prints
    how faithful the methods are, those of `control` beside, and how they agree with the `truth` of
    single images. Continues after an interruption. Raises InputError.
    """
    trained_on = check_run(run, config)
    _check_methods(run, config, methods)
    cohort = load_cohort(config.data)
    check_feature_file(run, config, trained_on)
    chosen = _choose(cohort, patients)
    tested = [each for each in methods if each != MEASURES]
    planned = (
        checks and plan_checks(run, config, cohort, chosen, tested, trained_on, control, truth)
    ) or None
    folder = _start(run, out or run / FOLDER, config, cohort.subset(chosen), methods, planned)
    explainer = Explainer(run, config, methods, folder, checks=planned)
    for name, part in (("labelled", cohort.labelled), ("unlabelled", cohort.unlabelled)):
        if set(chosen) & set(part.table.index) or (name == "labelled" and MEASURES in methods):
            _explain_part(explainer, name, part, chosen, trained_on)
    table = join(folder)
    if pictures and set(methods) & {*OF_PIXELS}:
        store: Any = open_instance_store(config.data, cohort.subset(chosen).images)[0]
        draw(folder, store, table, pictures)
    if planned is not None:
        planned.write_others(folder, ControlRun(run, config), cohort)
        persons, sizes = cohort.table["group"], planned.sizes(cohort)
        print_summary(write_faithfulness(folder, persons, sizes, not planned.unlabelled))
    return folder


def _check_methods(run: Path, config: TrainConfig, methods: Sequence[str]) -> None:
    unknown = [each for each in methods if each not in METHODS]
    if unknown or not methods or len(set(methods)) < len(methods):
        raise InputError(
            f"methods=[{','.join(methods)}]: must be some of {', '.join(METHODS)}, each once"
        )
    if not uses_images(config.model):
        raise InputError(f"run {run}: its model uses no images; there is nothing to explain")
    if of_pixels := [each for each in methods if each in OF_PIXELS]:
        if config.data.holds_features:
            raise InputError(
                f"methods: {of_pixels[0]} needs a network that looks at pixels, and bags of {run} "
                f"hold feature vectors; give methods=[leave_one_out,measures]"
            )
        if config.data.eval_tta > 1:
            raise InputError(
                f"methods: {of_pixels[0]} is of one view, and {run} averages data.eval_tta="
                f"{config.data.eval_tta} of them; give methods=[leave_one_out]"
            )
    if "attention" in methods and not weighs_images(config.model):
        raise InputError(f"methods: attention: the pooling of {run} has no weights; leave it out")
    if MEASURES in methods and not config.data.holds_features:
        raise InputError("methods: measures needs bags of feature vectors, such as experiment=best")
    if MEASURES in methods:
        model = build_model(config.model, clinical_dim=1)
        if not measures.is_linear(model) and find_spec("captum") is None:
            raise InputError(
                "methods: measures of a model that is not linear in them needs captum; run "
                "`pip install captum`, or leave measures out"
            )


def _choose(cohort: Cohort, patients: str | Sequence[str]) -> list[str]:
    known = list(cohort.table.index)
    if patients == "all":
        return known
    if patients == "sample":
        return sorted(some_patients(cohort.labelled.table.index, MOST_PLACED))
    if isinstance(patients, str):
        raise InputError(f"patients={patients}: must be all, sample, or a list as [P1,P2]")
    if unknown := [each for each in patients if each not in known]:
        raise InputError(
            f"patients: {unknown[0]} is not a patient of cohort {cohort.name} ({len(unknown)} such)"
        )
    return sorted(set(patients))


def _start(
    run: Path, folder: Path, config: TrainConfig, cohort: Cohort, methods: Sequence[str],
    checks: Checks | None,
) -> Path:  # fmt: skip
    """Make the folder, or keep what an interrupted command of the same settings left in it."""
    file = config.data.feature_file
    settings = {"run": sha256(run / SUMS), "cohort": cohort_digest(cohort, config.data),
                "features": None if file is None else sha256(file), "methods": [*methods],
                "checks": None if checks is None else checks.digests}  # fmt: skip
    path = folder / SETTINGS
    if folder.exists() and any(each.name != SETTINGS for each in folder.iterdir()):
        if not path.is_file() or read_mapping(path, "remove the folder") != settings:
            raise InputError(
                f"out={folder}: holds explanations of other patients, or of these with other "
                f"values or images, by other methods or checks, of the run as it was, or other "
                f"files; give another out=, or remove it"
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # its pictures and folders are named after patients
        write_json(path, settings)
    return folder


def _explain_part(
    explainer: Explainer, name: str, cohort: Cohort, chosen: Sequence[str],
    trained_on: Mapping[int, TrainedOn],
) -> None:  # fmt: skip
    """Explain the chosen patients of a part of the cohort, a fold after the other."""
    run, config = explainer.run, explainer.config
    ids = [each for each in chosen if each in cohort.table.index]
    if name == "unlabelled":  # of the others all are needed: whether they have changed
        cohort = cohort.subset(ids)
    for opened in open_folds(run, config, cohort, list(trained_on), name == "labelled"):
        part = explainer.folder / PARTS / f"{name}-{opened.fold}"
        known = trained_on[opened.fold].patients
        own = [each for each in ids if each not in known]
        if MEASURES in explainer.methods and name == "labelled":
            of_run = config.data, cohort, None, read_folds_csv(run), opened.fold, config.seed
            explainer.fit_measures(opened, BagDataModule(*of_run).train_patients)
        if own and not part.with_suffix(".csv").exists():
            explainer.explain_fold(opened, own, part)
        if explainer.checks is not None and name == "labelled":
            explainer.checks.write_randomised(explainer.folder, opened)
