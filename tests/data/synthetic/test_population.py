"""The generative model: keyed draws, plausible values, no shortcuts, and its Bayes bound."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from lymphoml.data.synthetic.bayes_bound import best_balanced_accuracy
from lymphoml.data.synthetic.population import POPULATION, TEST, TRAIN, draw_patient

IMAGES = (8, 40)


@pytest.fixture(scope="module")
def patients():
    return [draw_patient(IMAGES, seed=7, split=TEST, index=index) for index in range(4000)]


@pytest.fixture(scope="module")
def labels(patients):
    return np.array([patient.label for patient in patients])


def test_patients_depend_on_seed_split_and_index_only():
    first, again = (draw_patient(IMAGES, 0, TRAIN, 4) for _ in range(2))
    assert first[:5] == again[:5]
    assert np.array_equal(first.cells, again.cells)
    others = [draw_patient(IMAGES, *key) for key in ((1, TRAIN, 4), (0, TEST, 4), (0, TRAIN, 5))]
    assert len({first[1:5], *(other[1:5] for other in others)}) == 4
    few, many = (draw_patient(bounds, 0, TRAIN, 9) for bounds in ((2, 3), (50, 60)))
    assert few[:4] == many[:4]  # all but the cells


@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_balanced_and_have_one_pair_of_records(seed):
    drawn = [draw_patient(IMAGES, seed, TRAIN, index) for index in range(40)]
    assert [sum(p.label for p in drawn[i : i + 5]) for i in range(0, 40, 5)] == [3] * 8
    first, second, _ = [patient for patient in drawn[:5] if patient.label]
    assert (first.birth_date, first.sex) == (second.birth_date, second.sex)
    assert first.lymphocyte_count != second.lymphocyte_count
    assert len({(p.birth_date, p.sex) for p in drawn}) == 39


@pytest.mark.parametrize(
    "shortcut",
    [
        pytest.param(lambda i, p: len(p.cells), id="bag size"),
        pytest.param(lambda i, p: p.sex == "F", id="sex"),
        pytest.param(lambda i, p: p.birth_date.day, id="day of birth"),
        pytest.param(lambda i, p: i, id="order"),
    ],
)
def test_nothing_else_predicts_the_label(patients, labels, shortcut):
    auroc = roc_auc_score(labels, [shortcut(*each) for each in enumerate(patients)])
    assert abs(auroc - 0.5) < 4 * np.sqrt(len(labels) / (12 * labels.sum() * (1 - labels).sum()))


def test_values_are_plausible(patients):
    sizes = np.array([len(patient.cells) for patient in patients])
    assert (sizes.min(), sizes.max()) == IMAGES
    assert all(17.9 < patient.age < 99.1 for patient in patients)
    counts = np.array([patient.lymphocyte_count for patient in patients])
    assert counts.min() >= POPULATION.count_floor
    assert counts.max() < 500
    reactive = np.array([p.cells.mean() for p in patients if not p.label])
    assert 0.15 < reactive.mean() < 0.3
    assert (reactive > 0.5).any()


# The bound: a Bayes classifier written anew reaches it on simulated patients.


def log_likelihood(patients, label):
    """Of tables and of images, written anew from docs/data.md, the parameters as literals."""
    age = np.clip([patient.age for patient in patients], 18, 99)
    excess = np.log([max(patient.lymphocyte_count, 4.01) / 4 for patient in patients])
    n, k = np.array([(len(patient.cells), patient.cells.sum()) for patient in patients]).T
    mean, scale, clear = ((60, 0.12, (1, 9)), (68, 0.48, (9, 1)))[label]
    table = stats.truncnorm.logpdf(age, (18 - mean) / 15, (99 - mean) / 15, mean, 15)
    table += stats.gamma.logpdf(excess, 2, scale=scale)
    bag = 0.72 * stats.betabinom.pmf(k, n, *clear) + 0.28 * stats.betabinom.pmf(k, n, 3, 3)
    return table, np.log(bag)


def test_bayes_classifier_reaches_the_bounds(patients, labels):
    table, bag = np.subtract(log_likelihood(patients, 1), log_likelihood(patients, 0))
    evidence = {"table": table, "images": bag, "both": table + bag}
    for source, bound in best_balanced_accuracy(IMAGES).items():
        called = evidence[source] > 0
        rates = np.array([(called[labels == label] == label).mean() for label in (0, 1)])
        spread = rates * (1 - rates) / [(labels == label).sum() for label in (0, 1)]
        assert abs(rates.mean() - bound["value"]) < 4 * np.sqrt(spread.sum()) / 2


def test_each_modality_alone_falls_clearly_short():
    best = best_balanced_accuracy((16, 198))
    table, bag, both = (best[source]["value"] for source in ("table", "images", "both"))
    assert 0.80 < table < 0.84
    assert 0.83 < bag < 0.86
    assert 0.925 < both < 0.95
    assert all(bound["numerical_error"] < 1e-5 for bound in best.values())


def test_more_images_and_a_larger_clinical_effect_raise_their_own_bound_alone():
    def bounds(size, effect):
        population = POPULATION.with_clinical_effect(effect)
        found = best_balanced_accuracy((size, size), population, points=100)
        return found["table"]["value"], found["images"]["value"]

    found = {key: bounds(*key) for key in ((1, 0), (1, 1), (5, 0.25), (50, 1))}
    assert found[1, 0][0] == pytest.approx(0.5, abs=1e-6)
    assert found[1, 0][0] < found[5, 0.25][0] < found[1, 1][0] == found[50, 1][0]
    assert found[1, 0][1] == found[1, 1][1] < found[5, 0.25][1] < found[50, 1][1]
    # One cell: the error is the chance that it is not of its label's type, 0.72 * 0.1 + 0.28 / 2.
    assert found[1, 1][1] == pytest.approx(1 - 0.72 * 0.1 - 0.28 / 2)
