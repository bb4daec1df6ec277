import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    matthews_corrcoef,
    roc_curve,
)

from lymphoml.evaluation import pooled


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


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("decimals", [1, 9])
def test_each_row_of_weights_scores_as_scikit_learn_does(name, decimals):
    labels, probabilities = patients(decimals)
    weights = pooled.draw_weights(labels, 30, seed=1)
    ours = getattr(pooled, name)(labels, probabilities, weights)
    theirs = [ORACLES[name](labels, probabilities, row) for row in weights]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("constant", [0.2, 0.8])
def test_all_called_alike(constant):
    labels, _ = patients(1)
    same, weights = np.full(len(labels), constant), np.ones((1, len(labels)))
    assert pooled.matthews(labels, same, weights) == 0
    assert pooled.f1(labels, same, weights) == pytest.approx(
        f1_score(labels, same > 0.5, zero_division=0.0)
    )


def test_patients_are_drawn_within_class():
    labels, _ = patients(1)
    weights = pooled.draw_weights(labels, 500, seed=0)
    assert (weights[:, labels == 1].sum(axis=1) == labels.sum()).all()
    assert (weights[:, labels == 0].sum(axis=1) == (1 - labels).sum()).all()
    assert weights.mean(axis=0) == pytest.approx(1, abs=0.2)
    assert len(np.unique(weights, axis=0)) == 500
