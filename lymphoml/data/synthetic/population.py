"""The generative model of synthetic patients, and the highest score that it allows.

Given the label, table and images are independent; sex and bag size carry no information. Every draw
has a generator of its own, keyed by its purpose: a patient does not depend on how many others there
are, nor on the size of the images.
"""

import math
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from scipy import stats

TRAIN, TEST = 0, 1
BLOCK, PERSON, VISIT, DRAWING, TABLE = range(5)  # purposes of a generator
REFERENCE_DATE = date(2020, 1, 1)
BLOCK_SIZE = 5


@dataclass(frozen=True)
class Population:
    """The parameters; a pair stands for (reactive, tumoral)."""

    tumoral_of_five: int = 3
    age_mean: tuple[float, float] = (60.0, 68.0)  # years, normal, cut to `age_range`
    age_spread: float = 15.0
    age_range: tuple[float, float] = (18.0, 99.0)
    count_floor: float = 4.0  # 10^9/L; log(count / floor) follows a gamma distribution
    count_shape: float = 2.0
    count_scale: tuple[float, float] = (0.12, 0.48)
    # Share of atypical cells: Beta, of one kind in most patients, undecided in the others.
    clear_share: float = 0.72
    clear: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 9.0), (9.0, 1.0))
    unclear: tuple[float, float] = (3.0, 3.0)

    def with_clinical_effect(self, effect: float) -> "Population":
        """Return a population whose classes differ in age and count by this share, 0 to 1."""

        def scaled(pair: tuple[float, float]) -> tuple[float, float]:
            return pair[0], pair[0] + effect * (pair[1] - pair[0])

        return replace(self, age_mean=scaled(self.age_mean), count_scale=scaled(self.count_scale))


POPULATION = Population()


class Patient(NamedTuple):
    label: int  # 1 tumoral, 0 reactive
    birth_date: date
    sex: str
    lymphocyte_count: float  # 10^9/L
    atypical_fraction: float  # expected share of atypical cells
    cells: np.ndarray  # bool, one an image: atypical?
    id: str  # unique; ids have gaps, and training and test patients alternate
    written_date: str  # with slashes, month first; of one patient a block dashes, day first

    @property
    def age(self) -> float:
        """Years at the reference date."""
        return (REFERENCE_DATE - self.birth_date).days / 365.25


def generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_patient(
    images: tuple[int, int], seed: int, split: int, index: int, model: Population = POPULATION
) -> Patient:
    """Draw patient `index`; training has one person twice, under two ids."""
    block, position = divmod(index, BLOCK_SIZE)
    tumoral = generator(seed, split, BLOCK, block).permutation(BLOCK_SIZE) < model.tumoral_of_five
    label = int(tumoral[position])
    twins = np.flatnonzero(tumoral)[:2].tolist() if (split, block) == (TRAIN, 0) else []
    person = generator(seed, split, PERSON, twins[0] if index in twins else index)
    visit = generator(seed, split, VISIT, index)

    fewest, most = images
    size = int(math.exp(visit.uniform(math.log(fewest), math.log(most + 1))))
    excess = visit.gamma(model.count_shape, model.count_scale[label])
    clear = visit.random() < model.clear_share
    fraction = visit.beta(*(model.clear[label] if clear else model.unclear))
    born = REFERENCE_DATE - timedelta(days=round(365.25 * _age(model, label, person)))
    dashed = generator(seed, split, TABLE, block, 0).integers(BLOCK_SIZE) == position
    number = 4 * index + 2 * split + generator(seed, split, TABLE, index).integers(2)
    return Patient(
        label=label, birth_date=born, sex="FM"[person.integers(2)],
        lymphocyte_count=round(model.count_floor * math.exp(excess), 2), atypical_fraction=fraction,
        cells=visit.random(size) < fraction, id=f"P{number}",
        written_date=f"{born:%d-%m-%Y}" if dashed else f"{born.month}/{born.day}/{born.year}",
    )  # fmt: skip


def _age(model: Population, label: int, rng: np.random.Generator) -> float:
    youngest, oldest = model.age_range
    while not youngest <= (age := rng.normal(model.age_mean[label], model.age_spread)) <= oldest:
        pass
    return age


METHOD = (
    "Bayes rule at equal class weights, integrated over the generative model: ages and counts on a "
    "grid of midpoints, bag sizes and numbers of atypical cells exactly, every cell's type taken "
    "as recognised without error. numerical_error is the change from a grid of half as many "
    "points; nothing is sampled."
)


def best_balanced_accuracy(
    images: tuple[int, int], model: Population = POPULATION, points: int = 400
) -> dict[str, dict[str, float]]:
    """Return the highest balanced accuracy of any classifier of `table`, `images` or `both`."""
    fine, coarse = (_bounds(images, model, n) for n in (points, points // 2))
    return {
        source: {"value": value, "numerical_error": abs(value - coarse[source])}
        for source, value in fine.items()
    }


def _bounds(images: tuple[int, int], model: Population, points: int) -> dict[str, float]:
    table, bag = _table_likelihoods(model, points), _bag_likelihoods(model, images)
    # Both: sum the table's probability beyond the threshold that each possible bag sets.
    ratio = table[1] / table[0]
    order = np.argsort(ratio)
    below = [np.concatenate([[0.0], np.cumsum(p[order])]) for p in table]
    place = np.searchsorted(ratio[order], bag[0] / bag[1])
    specificity = (bag[0] * below[0][place]).sum()
    sensitivity = (bag[1] * (1 - below[1][place])).sum()
    return {
        "table": float(np.maximum(*table).sum() / 2), "images": float(np.maximum(*bag).sum() / 2),
        "both": float((specificity + sensitivity) / 2),
    }  # fmt: skip


def _table_likelihoods(model: Population, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each grid point (age, count), reactive and tumoral."""
    middle = (np.arange(points) + 0.5) / points
    age = model.age_range[0] + (model.age_range[1] - model.age_range[0]) * middle
    excess = 20 * max(model.count_scale) * middle**2  # denser where most patients are
    reactive, tumoral = (
        np.outer(
            stats.norm.pdf(age, model.age_mean[label], model.age_spread),
            stats.gamma.pdf(excess, model.count_shape, scale=model.count_scale[label]) * middle,
        ).ravel()
        for label in (0, 1)
    )
    return reactive / reactive.sum(), tumoral / tumoral.sum()


def _bag_likelihoods(model: Population, images: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability of each (bag size, number of atypical cells), both labels."""
    sizes = np.arange(images[0], images[1] + 1)
    n = np.repeat(sizes, sizes + 1)
    k = np.concatenate([np.arange(size + 1) for size in sizes])
    share = np.log((n + 1) / n) / np.log((images[1] + 1) / images[0])  # log-uniform bag sizes
    unclear = (1 - model.clear_share) * stats.betabinom.pmf(k, n, *model.unclear)
    reactive, tumoral = (
        share * (model.clear_share * stats.betabinom.pmf(k, n, *model.clear[label]) + unclear)
        for label in (0, 1)
    )
    return reactive, tumoral
