import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from lymphoml.evaluation.intervals import wilson
from lymphoml.evaluation.rule_out import (
    assess,
    negative_predictive_value,
    specificity_difference,
)


def patients(tumoral, reactive):
    labels = np.repeat([1, 0], [len(tumoral), len(reactive)])
    ids = [f"P{i}" for i in range(len(labels))]
    return pd.DataFrame({"label": labels, "probability": [*tumoral, *reactive]}, index=ids)


def drawn(random, skill=1.5, tumoral=113, reactive=50):
    table = patients(np.zeros(tumoral), np.zeros(reactive))
    logits = random.normal(size=len(table)) + skill * (table["label"] == 1)
    return table.assign(probability=1 / (1 + np.exp(-logits)))


def test_counts_by_hand():
    table = patients([0.9, 0.2, 0.3, 0.8], [0.1, 0.25, 0.3, 0.5])
    outcome = assess(table, 2)
    assert outcome.threshold == 0.3
    assert outcome.missed == 1  # 0.2; a patient at the threshold is tested
    assert outcome.ruled_out == 2  # 0.1 and 0.25
    assert outcome.average_sensitivity == pytest.approx(1 - 2 / 5)
    assert outcome.specificity == (0.5, *wilson(2, 4))
    assert np.isnan(outcome.negative_predictive_value).all()


def test_ties_at_the_threshold_are_tested():
    outcome = assess(patients([0.3] * 4, [0.3, 0.2]), 3)
    assert (outcome.missed, outcome.ruled_out) == (0, 1)


def test_rank_0_spares_nobody_and_is_plain_json():
    outcome = assess(patients([0.0, 0.5], [0.0, 0.1]), 0, prevalence=0.3)
    assert outcome.threshold is None
    assert (outcome.missed, outcome.ruled_out, outcome.sensitivity_bound) == (0, 0, 1)
    plain = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert plain["negative_predictive_value"] is None
    assert plain["specificity"]["value"] == 0
    full = assess(drawn(np.random.default_rng(0)), 5, 0.3).to_json()
    assert {type(value) for value in full.values()} == {int, float, dict}


def test_predictive_value_counted_by_hand():
    # Of 1000 patients 300 are tumoral: 300 x 5/114 missed; 700 x 0.6 spared.
    missed, spared = 300 * 5 / 114, 700 * 0.6
    value, low, high = negative_predictive_value(5, 113, 30, 50, prevalence=0.3)
    assert value == pytest.approx(spared / (spared + missed))
    assert low < value < high < 1
    assert negative_predictive_value(5, 113, 30, 50, prevalence=0.05).value > value
    assert np.isnan(negative_predictive_value(5, 113, 0, 50, 0.3)).all()


@pytest.mark.parametrize("rank", [2, 5])
def test_the_intervals_hold_the_truth_of_the_threshold_they_are_of(rank):
    random = np.random.default_rng(rank)
    covered = []
    for _ in range(1500):
        outcome = assess(drawn(random), rank, prevalence=0.3)
        limit = np.log(outcome.threshold / (1 - outcome.threshold))
        missed, spared = norm.cdf(limit - 1.5), norm.cdf(limit)
        truth = 0.7 * spared / (0.7 * spared + 0.3 * missed)
        covered.append(
            (
                outcome.specificity.low <= spared <= outcome.specificity.high,
                outcome.negative_predictive_value.low
                <= truth
                <= outcome.negative_predictive_value.high,
            )
        )
    assert (np.mean(covered, axis=0) > 0.93).all()
    assert (np.mean(covered, axis=0) < 0.98).all()


def test_difference_is_that_of_the_shares_and_paired():
    random = np.random.default_rng(0)
    table = drawn(random)
    other = table.assign(probability=drawn(random, skill=3)["probability"])
    value, low, high = specificity_difference(table, other, 5)
    shares = [assess(one, 5).specificity.value for one in (table, other)]
    assert value == pytest.approx(shares[0] - shares[1])
    assert low < value < high < 0
    assert specificity_difference(other, table, 5).value == -value
    # Of two models that agree the difference has no width, since patients are drawn for both.
    assert specificity_difference(table, table**2, 5) == (0, 0, 0)


def test_difference_covers_about_its_level_for_equal_models():
    random = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        table = drawn(random)
        other = table.assign(probability=drawn(random)["probability"])
        _, low, high = specificity_difference(table, other, 5, resamples=300)
        covered += low <= 0 <= high
    assert covered / 200 > 0.92


def test_difference_refuses_other_patients():
    table = drawn(np.random.default_rng(0))
    for other in (table.iloc[::-1], table.assign(label=1 - table["label"])):
        with pytest.raises(ValueError, match="other patients or labels"):
            specificity_difference(table, other, 5)
