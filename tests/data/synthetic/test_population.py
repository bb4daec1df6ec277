"""The generative model: keyed draws, no shortcuts, its Bayes bound, and drawings of its cells."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lymphoml.data.synthetic.cohort import _table
from lymphoml.data.synthetic.drawing import draw_slide, draw_smear
from lymphoml.data.synthetic.population import (
    POPULATION,
    TEST,
    TRAIN,
    best_balanced_accuracy,
    draw_patient,
)

IMAGES = (8, 40)


@pytest.fixture(scope="module")
def drawn():
    """Of the training split, but for its first block, where two records are of one person."""
    return {(TRAIN, i): draw_patient(IMAGES, 7, TRAIN, i) for i in range(5, 4005)}


@pytest.fixture(scope="module")
def patients(drawn):
    return list(drawn.values())


@pytest.fixture(scope="module")
def labels(patients):
    return np.array([patient.label for patient in patients])


def test_patients_depend_on_seed_split_and_index_and_only_cells_on_their_number():
    keys = ((0, TRAIN, 4), (1, TRAIN, 4), (0, TEST, 4), (0, TRAIN, 5))
    assert len({draw_patient(IMAGES, *key)[1:5] for key in keys}) == 4
    few, many = (draw_patient(bounds, 0, TRAIN, 9) for bounds in ((2, 3), (50, 60)))
    assert few[:4] == many[:4]
    assert len(few.cells) < 4 < 50 <= len(many.cells)


@pytest.mark.parametrize("seed", range(3))
def test_blocks_are_balanced_and_have_one_pair_of_records(seed):
    drawn = [draw_patient(IMAGES, seed, TRAIN, index) for index in range(40)]
    assert [sum(p.label for p in drawn[i : i + 5]) for i in range(0, 40, 5)] == [3] * 8
    first, second, _ = [patient for patient in drawn[:5] if patient.label]
    assert (first.birth_date, first.sex) == (second.birth_date, second.sex)
    assert first.lymphocyte_count != second.lymphocyte_count
    assert len({(p.birth_date, p.sex) for p in drawn}) == 39


def test_nothing_else_predicts_the_label(drawn, patients, labels):
    table = _table(drawn, seed=0)
    dashed = table["DOB"].str.contains("-").to_numpy()
    assert dashed.mean() == pytest.approx(0.2, abs=1e-3)
    sizes, days = zip(*[(len(p.cells), p.birth_date.day) for p in patients], strict=True)
    of_table = (
        dashed,
        np.arange(len(table)),
        table["ID"].str[1:].astype(int),
        table["GENDER"] == "M",
    )
    pairs = [(each, table["LABEL"]) for each in of_table] + [(sizes, labels), (days, labels)]
    for shortcut, label in pairs:
        assert abs(np.corrcoef(shortcut, label)[0, 1]) < 4 / np.sqrt(len(labels))


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
        assert bound["numerical_error"] < 1e-5


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


# Drawings


def draw(size, atypical, seed):
    rng = np.random.default_rng(seed)
    return draw_smear(size, atypical, draw_slide(rng), rng)


def simple_features(image):
    """Areas and mean colours that one would measure with a ruler: no outline, no texture."""
    edge = len(image) // 4
    pixels = image[edge:-edge, edge:-edge].astype(float).reshape(-1, 3)
    red, _, blue = pixels.T
    dark = red < 120
    bluish = (blue > red) & ~dark
    return [dark.mean(), bluish.mean(), *pixels[dark].mean(0), *pixels.mean(0)]


def test_types_are_separable_but_overlap_and_look_the_same_at_other_sizes():
    types = [False, True] * 200
    features = np.array([simple_features(draw(32, t, seed)) for seed, t in enumerate(types)])
    judge = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    assert 0.9 < cross_val_score(judge, features, types, cv=5).mean() < 0.995
    for atypical in (False, True):  # the share of dark pixels hardly depends on the resolution
        large = [simple_features(draw(96, atypical, seed))[0] for seed in range(30)]
        assert np.mean(large) == pytest.approx(features[atypical::2, 0].mean(), rel=0.1)
