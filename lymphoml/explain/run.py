"""Explain a run's patients by the models that did not train on them: cells, pixels, measures."""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write, sha256, write_csv, write_json
from lymphoml.core.progress import progress_bar
from lymphoml.core.untrusted import read_mapping
from lymphoml.data.cohort import Cohort, load_cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.explain import cells, maps, measures
from lymphoml.explain.parts import OF_MAPS, OF_MEASURES, OF_PATIENTS, draw, join
from lymphoml.explain.tables import FOLDER, LEAVE_ONE_OUT, PARTS, SETTINGS, strongest
from lymphoml.features.instance_store import open_instance_store
from lymphoml.models.build import uses_images
from lymphoml.models.mil import MILModel
from lymphoml.runs.checksums import SUMS
from lymphoml.runs.fold_lock import fold_folder
from lymphoml.runs.predict import check_run, open_models
from lymphoml.runs.provenance import check_data
from lymphoml.runs.run_folder import read_environment
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.trained_on import TrainedOn
from lymphoml.training.lightning_module import EVALUATION_CHUNK, BagClassifier
from lymphoml.training.predict_fold import load_module

OF_CELLS, OF_PIXELS = (LEAVE_ONE_OUT, "attention"), ("occlusion", "grad_cam")
MEASURES = "measures"
METHODS = (*OF_CELLS, *OF_PIXELS, MEASURES)


class Opened(NamedTuple):
    """A fold's model, in evaluation mode, and the bags that it can read."""

    fold: int
    model: MILModel
    bags: PatientBags

    def images(self, patient: str) -> Tensor:
        """Return the patient's images, uint8 (n 3 h w), or feature vectors (n d)."""
        stored = torch.from_numpy(np.array(self.bags.store.bag(patient)))  # type: ignore[union-attr]
        return stored.permute(0, 3, 1, 2) if stored.ndim == 4 else stored

    def clinical(self, patient: str) -> Tensor:
        return torch.from_numpy(
            self.bags.clinical.transform(self.bags.cohort.table.loc[[patient]])
        )[0]

    def views(self, patient: str) -> list[Tensor]:
        """Return the features of all images, once for each view that evaluation averages."""
        images = self.images(patient)
        found = [self.model.embed(images, transform=view, chunk_size=EVALUATION_CHUNK)
                 for view in self.bags.tta_views]  # fmt: skip
        return [each for each in found if each is not None]


@dataclass
class Explainer:
    """`methods` for patients of `cohort`; what a fold's model says of them is kept in a part."""

    run: Path
    config: TrainConfig
    methods: Sequence[str]
    folder: Path
    training: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # by fold
    groups: list[str] = field(default_factory=list)  # of the measures

    def explain_fold(self, opened: Opened, patients: Sequence[str], part: Path) -> None:
        """Write the part's measures, patients and maps, where there are any, then its cells."""
        found: dict[str, list[pd.DataFrame]] = {OF_MEASURES: [], OF_PATIENTS: [], ".csv": []}
        arrays = self._places(opened)
        with progress_bar(f"fold {opened.fold}", len(patients), "patients") as bar:
            for patient in patients:
                names = [path.name for path in opened.bags.cohort.images[patient]]
                views = opened.views(patient) if set(self.methods) - {*OF_PIXELS} else []
                for method, effects, pixels in self._effects(opened, patient, views):
                    rows = {"patient": patient, "image": names, "method": method, "effect": effects}
                    found[".csv"].append(pd.DataFrame(rows))
                    if pixels is not None:
                        arrays[f"{method}/{patient}"] = pixels.astype(np.float32)
                    if method == LEAVE_ONE_OUT:
                        found[OF_PATIENTS].append(self._logits(opened, patient, views, effects))
                if MEASURES in self.methods:
                    found[OF_MEASURES].append(self._measures(opened, patient, views[0]))
                bar.advance()
        if arrays:
            with atomic_write(part.with_name(part.name + OF_MAPS)) as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        nothing = pd.DataFrame(columns=["patient", "image", "method"])
        for ending, tables in found.items():
            if tables or ending == ".csv":
                table = pd.concat(tables or [nothing])
                write_csv(part.with_name(part.name + ending), table, private=True)

    def _effects(
        self, opened: Opened, patient: str, views: Sequence[Tensor]
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
        """Yield each method, what each image does to the logit, and where in it."""
        model, clinical = opened.model, opened.clinical(patient)
        with torch.no_grad():
            if LEAVE_ONE_OUT in self.methods:
                each = [cells.leave_one_out(model, view, clinical) for view in views]
                yield LEAVE_ONE_OUT, torch.stack(each).mean(0).numpy(), None
            if "attention" in self.methods:
                weights = cells.attention_weights(model, views[0])
                if weights is not None:
                    yield "attention", weights.numpy(), None
        if not set(self.methods) & {*OF_PIXELS}:
            return
        images, transform = opened.images(patient), opened.bags.transform
        if "occlusion" in self.methods:
            found = maps.occlusion(model, images, transform, clinical).numpy()
            yield "occlusion", found.mean((1, 2)), found
        if "grad_cam" in self.methods:
            cams, strength = maps.grad_cam(model, images, transform, clinical)
            total = torch.where(strength > 0, cams.sum((1, 2)), torch.nan)
            yield "grad_cam", total.numpy(), cams.numpy()

    @torch.no_grad()
    def _logits(
        self, opened: Opened, patient: str, views: Sequence[Tensor], effects: np.ndarray
    ) -> pd.DataFrame:
        """Return the bag's logit, and that without the images of largest effect, as `tables` has.

        NaN where no image would be left.
        """
        clinical = opened.clinical(patient)
        row: dict[str, Any] = {"patient": patient}
        for_tumoral, against = strongest(effects)
        left_out = {
            "logit": for_tumoral[:0],
            "without_for": for_tumoral,
            "without_against": against,
        }
        for name, images in left_out.items():
            rest = np.setdiff1d(np.arange(len(effects)), images)
            logits = [cells.bag_logit(opened.model, view[rest], clinical) for view in views]
            row[name] = float(torch.stack(logits).mean()) if len(rest) else np.nan
        return pd.DataFrame([row])

    def _places(self, opened: Opened) -> dict[str, np.ndarray]:
        """Return of each method of pixels where its maps lie."""
        store: Any = opened.bags.store
        places = {}
        if "occlusion" in self.methods:
            places["occlusion"] = maps.window_centre_and_step(store.size[0])
        if "grad_cam" in self.methods:
            encoder: Any = opened.model.encoder
            places["grad_cam"] = maps.centre_and_step(encoder)
        return {method: np.array(place) for method, place in places.items()}

    def fit_measures(self, opened: Opened, known: Collection[str]) -> None:
        """Keep the mean bag and clinical values of a fold's training patients, `known`.

        Groups are of all labelled patients: without labels, and the same in all folds.
        """
        linear, patients = self._linear(opened), list(opened.bags.cohort.table.index)
        bags = np.stack([measures.pooled(opened.model, opened.views(each)[0]) for each in patients])
        clinical = torch.stack([opened.clinical(each) for each in patients]).double().numpy()
        trained = np.isin(patients, list(known))
        self.training[opened.fold] = bags[trained].mean(axis=0), clinical[trained].mean(axis=0)
        self.groups = self.groups or measures.group_measures(linear.columns, bags)

    def _measures(self, opened: Opened, patient: str, view: Tensor) -> pd.DataFrame:
        bag = measures.pooled(opened.model, view)
        clinical = opened.clinical(patient).double().numpy()
        of_bag, of_clinical = measures.contributions(
            self._linear(opened), bag, clinical, *self.training[opened.fold]
        )
        sums = measures.sum_groups(self.groups, of_bag)
        names = [*sums.index, *opened.bags.clinical.names[: len(of_clinical)]]
        return pd.DataFrame({"patient": patient, "measure": names,
                             "contribution": [*sums, *of_clinical]})  # fmt: skip

    @staticmethod
    def _linear(opened: Opened) -> measures.LinearModel:
        store: Any = opened.bags.store
        return measures.linear_model(opened.model, store.names)


def explain(
    run: Path, config: TrainConfig, patients: Sequence[str] | None = None,
    methods: Sequence[str] = ("leave_one_out",), pictures: int = 0, out: Path | None = None,
) -> Path:  # fmt: skip
    """Write the files of `tables`, maps and pictures below RUN/explanations; return it.

    `patients` None: all. A labelled patient is explained by the models that did not train on that
    patient, one a repeat; an unlabelled one by all. Given are the mean over models and their
    standard deviation. All images count, also where `data.eval_bag_size` is set. Of methods of
    pixels the `pictures` images of largest effect are drawn. Continues after an interruption.
    Raises InputError.
    """
    trained_on = check_run(run, config)
    _check_methods(run, config, methods)
    cohort = load_cohort(config.data)
    chosen = _choose(cohort, patients)
    folder = _start(run, out or run / FOLDER, chosen, methods)
    explainer = Explainer(run, config, methods, folder)
    for name, part in (("labelled", cohort.labelled), ("unlabelled", cohort.unlabelled)):
        if set(chosen) & set(part.table.index) or (name == "labelled" and MEASURES in methods):
            _explain_part(explainer, name, part, chosen, trained_on)
    table = join(folder)
    if pictures and set(methods) & {*OF_PIXELS}:
        store: Any = open_instance_store(config.data, cohort.subset(chosen).images)[0]
        draw(folder, store, table, pictures)
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
            raise InputError(f"methods: {of_pixels[0]} is of one view; set data.eval_tta=1")
    if MEASURES in methods and not config.data.holds_features:
        raise InputError("methods: measures needs bags of feature vectors, such as experiment=best")


def _choose(cohort: Cohort, patients: Sequence[str] | None) -> list[str]:
    known = cohort.table.index
    if unknown := [each for each in patients or () if each not in known]:
        raise InputError(
            f"patients: {unknown[0]} is not a patient of cohort {cohort.name} ({len(unknown)} such)"
        )
    return sorted(set(patients)) if patients is not None else list(known)


def _start(run: Path, folder: Path, patients: Sequence[str], methods: Sequence[str]) -> Path:
    """Make the folder, or keep what an interrupted command of the same settings left in it."""
    ids = sha256_of(patients)
    settings = {"run": sha256(run / SUMS), "patients": ids, "methods": [*methods]}
    path = folder / SETTINGS
    if folder.exists() and any(folder.iterdir()):
        if not path.is_file() or read_mapping(path, "remove the folder") != settings:
            raise InputError(
                f"out={folder}: holds explanations of other patients, by other methods or of the "
                f"run as it was, or other files; give another out=, or remove it"
            )
    else:
        write_json(path, settings)
    return folder


def sha256_of(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def _explain_part(
    explainer: Explainer, name: str, cohort: Cohort, chosen: Sequence[str],
    trained_on: Mapping[int, TrainedOn],
) -> None:  # fmt: skip
    """Explain the chosen patients of a part of the cohort, a fold after the other."""
    run, config = explainer.run, explainer.config
    ids = [each for each in chosen if each in cohort.table.index]
    environment = read_environment(run)
    for fold, checkpoint, _, bags, key in open_models(run, config, cohort, list(trained_on)):
        if name == "labelled":
            check_data(run, environment, cohort, key, config.data.shuffle)
        part = explainer.folder / PARTS / f"{name}-{fold}"
        known = trained_on[fold].patients
        own = [each for each in ids if each not in known]
        done = part.with_suffix(".csv").exists()
        module = load_module(checkpoint, fold_folder(run, fold), BagClassifier)
        opened = Opened(fold, module.model.eval(), bags)
        if MEASURES in explainer.methods and name == "labelled":
            explainer.fit_measures(opened, known)
        if own and not done:
            explainer.explain_fold(opened, own, part)
