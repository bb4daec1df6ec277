import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
    roc_curve,
)

from lymphoml.evaluation import pooled
from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.pooled import RESAMPLED, pool


def specificity_at_95(labels, probabilities, weights):
    false_alarm, found, _ = roc_curve(
        labels, probabilities, sample_weight=weights, drop_intermediate=False
    )
    return 1 - false_alarm[found >= 0.95 - 1e-9].min()


ORACLES = {
    "specificity_at_95": specificity_at_95,
    "average_precision": lambda y, p, w: average_precision_score(y, p, sample_weight=w),
    "f1": lambda y, p, w: f1_score(y, p > 0.5, sample_weight=w, zero_division=0.0),
    "matthews": lambda y, p, w: matthews_corrcoef(y, p > 0.5, sample_weight=w),
    "brier": lambda y, p, w: brier_score_loss(y, p, sample_weight=w),
}


def patients(decimals, n=40, seed=0):
    """Few decimals make many ties."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(n) % 3 > 0).astype(int)
    return labels, random.beta(2 + 2 * labels, 2).round(decimals)


@pytest.mark.parametrize("name", RESAMPLED)
@pytest.mark.parametrize("decimals", [1, 9])
def test_each_row_of_weights_scores_as_scikit_learn_does(name, decimals):
    labels, probabilities = patients(decimals)
    weights = pooled.draw_weights(labels)[:30]
    scores = RESAMPLED[name](labels, probabilities, weights)
    expected = [ORACLES[name](labels, probabilities, row) for row in weights]
    np.testing.assert_allclose(scores, expected, atol=1e-12)


@pytest.mark.parametrize("constant", [0.2, 0.8])
def test_all_called_alike(constant):
    labels, _ = patients(1)
    same, weights = np.full(len(labels), constant), np.ones((1, len(labels)))
    assert pooled.matthews(labels, same, weights) == 0
    expected = f1_score(labels, same > 0.5, zero_division=0.0)
    assert pooled.f1(labels, same, weights) == pytest.approx(expected)


def draw(random, tumoral, reactive):
    labels = np.repeat([1, 0], [tumoral, reactive])
    probability = 1 / (1 + np.exp(-random.normal(2 * labels - 1)))
    table = {"patient": np.arange(len(labels)), "fold": 0, "label": labels}
    return pd.DataFrame(table | {"probability": probability})


@pytest.mark.parametrize("name", RESAMPLED)
def test_no_interval_where_no_resample_differs(name):
    table = draw(np.random.default_rng(0), 30, 20)
    score = pool(table.assign(probability=table["label"] * 0.8 + 0.1), 1)[name]
    assert score["value"] in (1.0, pytest.approx(0.01))
    assert np.isnan([score["low"], score["high"]]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tumoral"), [*((name, 34) for name in RESAMPLED), ("specificity_at_95", 113)]
)
def test_bootstrap_intervals_cover_what_they_estimate(name, tumoral):
    """With 50 reactive patients: the hard stratum and all; against a very large cohort."""
    random = np.random.default_rng(0)
    big = draw(random, 136_000, 200_000)
    truth = score_fold(big["label"], big["probability"])[name]
    covered = []
    for _ in range(200):
        score = pool(draw(random, tumoral, 50), 1, [name])[name]
        covered.append(score["low"] <= truth <= score["high"])
    assert 0.90 <= np.mean(covered) <= 0.99
