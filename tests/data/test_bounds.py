"""The bounds: a Bayes classifier written anew meets them on simulated patients."""

import numpy as np
import pytest
from scipy import stats

from lymphoml.data.synthetic.population import TEST, Patient, best_balanced_accuracy, draw_patient

IMAGES = (8, 40)


def log_likelihood(patients: list[Patient], label: int) -> tuple[np.ndarray, np.ndarray]:
    """Of tables and of images, written anew from docs/data.md, the parameters as literals."""
    age = np.clip([patient.age for patient in patients], 18, 99)
    excess = np.log([max(patient.lymphocyte_count, 4.01) / 4 for patient in patients])
    n, k = np.array([(len(patient.cells), patient.cells.sum()) for patient in patients]).T
    mean, scale, clear = ((60, 0.12, (1, 9)), (68, 0.48, (9, 1)))[label]
    table = stats.truncnorm.logpdf(age, (18 - mean) / 15, (99 - mean) / 15, mean, 15)
    table += stats.gamma.logpdf(excess, 2, scale=scale)
    bag = 0.72 * stats.betabinom.pmf(k, n, *clear) + 0.28 * stats.betabinom.pmf(k, n, 3, 3)
    return table, np.log(bag)


def test_bayes_classifier_meets_the_bounds() -> None:
    patients = [draw_patient(IMAGES, seed=8, split=TEST, index=index) for index in range(4000)]
    labels = np.array([patient.label for patient in patients])
    table, bag = np.subtract(log_likelihood(patients, 1), log_likelihood(patients, 0))
    evidence = {"table": table, "images": bag, "both": table + bag}
    for source, bound in best_balanced_accuracy(IMAGES).items():
        called = evidence[source] > 0
        rates = np.array([(called[labels == label] == label).mean() for label in (0, 1)])
        spread = rates * (1 - rates) / [(labels == label).sum() for label in (0, 1)]
        assert abs(rates.mean() - bound["value"]) < 4 * np.sqrt(spread.sum()) / 2


@pytest.mark.parametrize("images", [(16, 198), (12, 60)])
def test_each_modality_alone_falls_clearly_short(images: tuple[int, int]) -> None:
    best = best_balanced_accuracy(images)
    table, bag, both = (best[source]["value"] for source in ("table", "images", "both"))
    assert 0.80 < table < 0.84
    assert 0.83 < bag < 0.86
    assert 0.925 < both < 0.95
    assert all(bound["numerical_error"] < 1e-5 for bound in best.values())


def test_more_images_say_more() -> None:
    bounds = [best_balanced_accuracy(images, points=100) for images in ((1, 1), (5, 5), (50, 50))]
    assert [b["images"]["value"] for b in bounds] == sorted(b["images"]["value"] for b in bounds)
    assert bounds[0]["table"] == bounds[2]["table"]
    # One cell: the error is the chance that it is not of its label's type, 0.72 * 0.1 + 0.28 / 2.
    assert bounds[0]["images"]["value"] == pytest.approx(1 - 0.72 * 0.1 - 0.28 / 2)
