"""The generative model: keyed draws, plausible values, no shortcuts."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from lymphoml.data.synthetic.population import (
    POPULATION,
    TEST,
    TRAIN,
    Patient,
    best_balanced_accuracy,
    draw_patient,
)

IMAGES = (8, 40)


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return [draw_patient(IMAGES, seed=7, split=TEST, index=index) for index in range(4000)]


@pytest.fixture(scope="module")
def labels(patients: list[Patient]) -> np.ndarray:
    return np.array([patient.label for patient in patients])


def test_patients_depend_on_seed_split_and_index_only() -> None:
    first = draw_patient(IMAGES, 0, TRAIN, 4)
    again = draw_patient(IMAGES, 0, TRAIN, 4)
    assert first[:5] == again[:5]
    assert np.array_equal(first.cells, again.cells)
    others = [draw_patient(IMAGES, *key) for key in ((1, TRAIN, 4), (0, TEST, 4), (0, TRAIN, 5))]
    assert len({first[1:5], *(other[1:5] for other in others)}) == 4


def test_person_is_the_same_whatever_the_bag_size() -> None:
    few, many = (draw_patient(bounds, 0, TRAIN, 9) for bounds in ((2, 3), (50, 60)))
    assert few[:3] == many[:3]
    assert few.lymphocyte_count == many.lymphocyte_count


@pytest.mark.parametrize("seed", range(10))
def test_blocks_are_balanced_and_hold_one_pair_of_records(seed: int) -> None:
    drawn = [draw_patient(IMAGES, seed, TRAIN, index) for index in range(40)]
    assert [sum(p.label for p in drawn[i : i + 5]) for i in range(0, 40, 5)] == [3] * 8
    first, second, _ = [patient for patient in drawn[:5] if patient.label]
    assert (first.birth_date, first.sex) == (second.birth_date, second.sex)
    assert first.lymphocyte_count != second.lymphocyte_count
    assert len({(p.birth_date, p.sex) for p in drawn}) == 39


@pytest.mark.parametrize(
    "shortcut",
    [
        pytest.param(lambda p: len(p.cells), id="bag size"),
        pytest.param(lambda p: p.sex == "F", id="sex"),
        pytest.param(lambda p: p.birth_date.day, id="day of birth"),
    ],
)
def test_nothing_else_tells_the_label(
    patients: list[Patient], labels: np.ndarray, shortcut: Callable[[Patient], float]
) -> None:
    auroc = roc_auc_score(labels, [shortcut(patient) for patient in patients])
    assert abs(auroc - 0.5) < 4 * np.sqrt(len(labels) / (12 * labels.sum() * (1 - labels).sum()))


def test_order_does_not_tell_the_label(labels: np.ndarray) -> None:
    auroc = roc_auc_score(labels, np.arange(len(labels)))
    assert abs(auroc - 0.5) < 0.03


def test_table_and_images_are_independent_given_the_label(
    patients: list[Patient], labels: np.ndarray
) -> None:
    values = np.array([(p.age, p.lymphocyte_count, p.atypical_fraction) for p in patients])
    for label in (0, 1):
        rank = stats.spearmanr(values[labels == label]).statistic
        assert np.abs(rank[np.triu_indices(3, 1)]).max() < 4 / np.sqrt((labels == label).sum())


def test_values_are_plausible(patients: list[Patient]) -> None:
    sizes = np.array([len(patient.cells) for patient in patients])
    assert (sizes.min(), sizes.max()) == IMAGES
    assert all(17.9 < patient.age < 99.1 for patient in patients)
    counts = np.array([patient.lymphocyte_count for patient in patients])
    assert counts.min() >= POPULATION.count_floor
    assert counts.max() < 500
    reactive = np.array([p.cells.mean() for p in patients if not p.label])
    assert 0.15 < reactive.mean() < 0.3
    assert (reactive > 0.5).any()


def test_a_smaller_clinical_effect_lowers_the_bound_of_the_table_alone() -> None:
    bounds = [
        best_balanced_accuracy((2, 5), POPULATION.with_clinical_effect(effect), points=60)
        for effect in (0.0, 0.25, 1.0)
    ]
    table = [bound["table"]["value"] for bound in bounds]
    assert table[0] == pytest.approx(0.5, abs=1e-6)
    assert table[0] < table[1] < table[2]
    assert len({bound["images"]["value"] for bound in bounds}) == 1
