"""The checks of `faithfulness.json`: tables with a row for each number of a patient."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError
from lymphoml.core.files import atomic_write, sha256, write_csv
from lymphoml.core.progress import progress_bar
from lymphoml.core.seeding import keyed_generator, keyed_seed
from lymphoml.data.cohort import Cohort
from lymphoml.explain.bag import Bag, Opened, effects, open_folds
from lymphoml.explain.deletion import Row, check_cells, check_places, right_by_construction
from lymphoml.explain.randomised import cascade, part_of, rank_correlation, scores
from lymphoml.explain.regions import check_regions
from lymphoml.explain.tables import ATTENTION, LEAVE_ONE_OUT, OF_PIXELS, PARTS
from lymphoml.runs.checksums import SUMS
from lymphoml.runs.instance_truth import join_truth
from lymphoml.runs.predict import check_run
from lymphoml.runs.settings import TrainConfig
from lymphoml.runs.trained_on import TrainedOn

CHECKS, CEILING = f"{PARTS}/checks", f"{PARTS}/ceiling"  # folders
MOST_PLACED = 40  # patients
MOST_RANDOMISED, MOST_OF_VECTORS = 20, 40  # patients, of pixels and of vectors
MOST_IMAGES = 8  # of a patient, whose pixels are blurred
SEEDS, SEEDS_OF_VECTORS = 3, 10  # of the cascade; vectors need no encoding again
MODELS = RUN, UNTRAINED, CONTROL = "run", "untrained", "control"
RANDOMISATION = "randomisation"
Found = tuple[str, np.ndarray, np.ndarray | None]  # of `effects`


class ControlRun(NamedTuple):
    path: Path
    config: TrainConfig


@dataclass(frozen=True)
class Checks:
    """What is checked of `methods`, by the models of the first repeat."""

    methods: Sequence[str]
    held_out: Mapping[int, Sequence[str]]  # labelled patients that are explained, by fold
    placed: Sequence[str]  # of these, whose pixels are blurred
    randomised: Sequence[str]  # of these, whose scores are compared when weights are random
    unlabelled: Sequence[str]  # explained, for the ceiling; without any, `randomised`
    truth: Mapping[str, np.ndarray]  # 0 or 1 of each image of a patient
    control: ControlRun | None
    digests: Mapping[str, str | None]  # of the files of control and truth

    def rows(self, who: str, opened: Opened, bag: Bag, found: Iterable[Found]) -> pd.DataFrame:
        """Return the rows of a patient, for the model that is called `who`."""
        by_method = {method: (values, maps) for method, values, maps in found}
        if LEAVE_ONE_OUT in by_method and ATTENTION not in by_method:  # to compare
            by_method |= {method: (values, None) for method, values, _ in effects(bag, [ATTENTION])}
        cells = {method: values for method, (values, _) in by_method.items()}
        maps = {method: maps for method, (_, maps) in by_method.items() if maps is not None}
        rows = [*check_cells(bag, cells, self.truth.get(bag.patient))]
        if maps and bag.patient in self.placed:
            places, chosen = opened.places([*maps]), some_images(bag.patient, len(bag.images))
            rows += check_places(bag, chosen, maps, places)
            paths, crop = opened.bags.cohort.images[bag.patient], opened.bags.data.crop
            rows += check_regions(bag, paths, crop, chosen, maps, places)
        return self._table(who, bag, rows)

    @staticmethod
    def _table(who: str, bag: Bag, rows: Sequence[Row]) -> pd.DataFrame:
        sums = [right_by_construction(bag.model, row.method, row.check) for row in rows]
        table = pd.DataFrame(rows, columns=[*Row._fields])
        return table.assign(model=who, patient=bag.patient, by_construction=sums)

    def of_other(self, who: str, opened: Opened, patients: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield the rows of patients by a model that is not the run's; of pixels only of few."""
        for patient in patients:
            bag, placed = opened.bag(patient), patient in self.placed
            methods = [each for each in self.methods if placed or each not in OF_PIXELS]
            yield self.rows(who, opened, bag, effects(bag, methods))

    def sizes(self, cohort: Cohort) -> dict[str, Any]:
        """Return how many patients and images are looked at."""
        patients = [each for own in self.held_out.values() for each in own]
        images = [len(cohort.images[each]) for each in patients]
        blurred = [min(len(cohort.images[each]), MOST_IMAGES) for each in self.placed]
        sample = {"patients": len(blurred), "images": sum(blurred)} if blurred else None
        return {"patients": len(patients), "images": sum(images), "sample": sample}

    def randomise(self, opened: Opened, patients: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Yield how the scores after each step correlate with the model's, and the twin's rows."""
        own = [each for each in patients if each in self.randomised]
        bags = [part_of(opened.bag(each)) for each in own]
        trained = [scores(bag, self.methods) for bag in bags]
        on_pixels = any(bag.images.ndim == 4 for bag in bags)
        seeds = range((SEEDS if on_pixels else SEEDS_OF_VECTORS) if own else 0)
        with progress_bar(f"fold {opened.fold}, randomised", len(seeds), "seeds") as bar:
            for seed in seeds:
                rows: list[list[Row]] = [[] for _ in bags]
                for step, twin in cascade(opened.model, opened.fold, seed):
                    for of_bag, bag, reference in zip(rows, bags, trained, strict=True):
                        for method, values in scores(bag.by(twin), self.methods).items():
                            found = rank_correlation(values, reference[method])
                            of_bag.append(Row(method, RANDOMISATION, step, seed, found))
                yield from (self._table(RUN, *each) for each in zip(bags, rows, strict=True))
                if seed == 0:
                    yield from self.of_other(UNTRAINED, opened._replace(model=twin), own)
                bar.advance()

    def write_randomised(self, folder: Path, opened: Opened) -> None:
        """Write the correlations of a fold's cascade, and what its untrained twin says."""
        patients = self.held_out.get(opened.fold, ())
        path = folder / CHECKS / f"randomised-{opened.fold}.csv"
        _write(path, self.randomise(opened, patients))

    def write_others(self, folder: Path, run: ControlRun, cohort: Cohort) -> None:
        """Write what the models of the control say, and what those of all folds say of the same."""
        folds, part = [*self.held_out], cohort.unlabelled if self.unlabelled else cohort.labelled
        if self.control is not None:
            for opened in open_folds(*self.control, cohort.labelled, folds, same=True):
                tables = self.of_other(CONTROL, opened, self.held_out[opened.fold])
                _write(folder / CHECKS / f"control-{opened.fold}.csv", tables)
        for opened in open_folds(*run, part, folds, same=not self.unlabelled):
            path = folder / CEILING / f"{opened.fold}.npz"
            if path.exists():
                continue
            arrays: dict[str, Any] = {}
            for patient in self.unlabelled or self.randomised:
                found = scores(part_of(opened.bag(patient)), self.methods)
                arrays |= {f"{method}/{patient}": values for method, values in found.items()}
            with atomic_write(path, private=True) as file:
                np.savez_compressed(file, **arrays)


def some_patients(patients: Iterable[str], most: int) -> list[str]:
    """Return those whose ids come first by a keyed hash."""
    return sorted(patients, key=lambda each: keyed_seed("checked patients", each))[:most]


def some_images(patient: str, count: int) -> list[int]:
    """Return the places of up to MOST_IMAGES of a patient's images, drawn by a key."""
    drawn = keyed_generator("blurred images", patient).permutation(count)
    return sorted(drawn[:MOST_IMAGES].tolist())


def plan_checks(
    run: Path, config: TrainConfig, cohort: Cohort, patients: Sequence[str],
    methods: Sequence[str], trained_on: Mapping[int, TrainedOn],
    control: ControlRun | None, truth: Path | None,
) -> Checks | None:  # fmt: skip
    """Return what is to be checked; None without a labelled patient, or a method of images.

    Raises InputError for a control of other patients, folds or model, and for a truth that does
    not cover the patients.
    """
    labelled = sorted({*patients} & {*cohort.labelled.table.index})
    if not labelled or not methods:
        if control or truth:
            raise InputError("control and truth need a labelled patient and a method of images")
        return None
    if control is not None:
        _check_control(run, config, control, trained_on)
    most = MOST_OF_VECTORS if config.data.holds_features else MOST_RANDOMISED
    return Checks(
        methods=methods,
        held_out={fold: [each for each in labelled if each not in model.patients]
                  for fold, model in trained_on.items() if fold < config.data.folds},
        placed=some_patients(labelled, MOST_PLACED) if set(methods) & {*OF_PIXELS} else [],
        randomised=some_patients(labelled, most),
        unlabelled=some_patients(set(patients) - {*labelled}, most),
        truth={} if truth is None else _read_truth(truth, cohort, labelled),
        control=control,
        digests={"control": sha256(control.path / SUMS) if control else None,
                 "truth": sha256(truth) if truth else None},
    )  # fmt: skip


def _check_control(
    run: Path, config: TrainConfig, control: ControlRun, trained_on: Mapping[int, TrainedOn]
) -> None:
    own, others = ({fold: {*each.patients} for fold, each in models.items()}
                   for models in (trained_on, check_run(*control)))  # fmt: skip
    if own != others or config.model != control.config.model:
        raise InputError(
            f"control={control.path}: has other patients, folds or model than {run}; give a run "
            f"that differs in its labels alone, such as data.shuffle_bag_labels=true"
        )


def _read_truth(path: Path, cohort: Cohort, patients: Sequence[str]) -> dict[str, np.ndarray]:
    rows = [(each, image.name) for each in patients for image in cohort.images[each]]
    images = pd.DataFrame(rows, columns=["patient", "image"])
    joined = join_truth(images, path, f"cohort {cohort.name}")
    by_patient = {str(patient): bag["truth"].to_numpy(int)
                  for patient, bag in joined.groupby("patient", sort=False)}  # fmt: skip
    if not any(len(np.unique(each)) == 2 for each in by_patient.values()):
        raise InputError(f"truth={path}: no patient that is explained has images of both kinds")
    return by_patient


def _write(path: Path, rows: Iterator[pd.DataFrame]) -> None:
    """Make and write the rows, unless an interrupted command has."""
    if not path.exists() and (tables := [*rows]):
        write_csv(path, pd.concat(tables), private=True)
