"""The generative model of synthetic patients.

Given the label, table and images are independent; sex and bag size carry no information. Every draw
has a generator of its own, keyed by its purpose: a patient does not depend on how many others there
are, nor on the size of the images.
"""

import math
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import NamedTuple

import numpy as np

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
        label=label,
        birth_date=born,
        sex="FM"[person.integers(2)],
        lymphocyte_count=round(model.count_floor * math.exp(excess), 2),
        atypical_fraction=fraction,
        cells=visit.random(size) < fraction,
        id=f"P{number}",
        written_date=f"{born:%d-%m-%Y}" if dashed else f"{born.month}/{born.day}/{born.year}",
    )


def _age(model: Population, label: int, rng: np.random.Generator) -> float:
    youngest, oldest = model.age_range
    while not youngest <= (age := rng.normal(model.age_mean[label], model.age_spread)) <= oldest:
        pass
    return age
