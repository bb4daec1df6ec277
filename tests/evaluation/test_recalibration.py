import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from lymphoml.evaluation.calibration import METHODS, calibration_slope, recalibrate


def predictions(n=150, folds=5, repeats=2, boldness=3.0, seed=0):
    """Logits three times too large."""
    random = np.random.default_rng(seed)
    truth = random.normal(0.5, 1, n)
    label = (random.random(n) < expit(truth)).astype(int)
    return pd.concat(
        pd.DataFrame(
            {
                "patient": [f"P{i}" for i in range(n)],
                "fold": repeat * folds + random.permutation(n) % folds,
                "label": label,
                "probability": expit(boldness * (truth + random.normal(0, 0.1, n))),
            }
        )
        for repeat in range(repeats)
    ).reset_index(drop=True)


def smoothed(labels):
    m, n = (labels == 1).sum(), (labels == 0).sum()
    return np.where(labels == 1, (m + 1) / (m + 2), 1 / (n + 2))


def fitted(rows, with_constant):
    """statsmodels' maximum likelihood on the smoothed labels."""
    x = logit(rows["probability"].to_numpy())
    design = sm.add_constant(x) if with_constant else x[:, None]
    return sm.GLM(smoothed(rows["label"].to_numpy()), design, sm.families.Binomial()).fit().params


@pytest.mark.parametrize("method", METHODS)
def test_each_fold_is_scaled_by_the_fit_of_the_others_of_its_repeat(method):
    table = predictions()
    scaled = recalibrate(table, 5, method)
    pd.testing.assert_frame_equal(
        scaled.drop(columns="probability"), table.drop(columns="probability")
    )
    for fold in (0, 7):
        others = table[(table["fold"] // 5 == fold // 5) & (table["fold"] != fold)]
        rows = table["fold"] == fold
        x = logit(table["probability"][rows])
        params = fitted(others, method == "platt")
        expected = expit(params[0] + params[1] * x if method == "platt" else params[0] * x)
        np.testing.assert_allclose(scaled["probability"][rows], expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_folds_own_labels_play_no_part_in_its_probabilities(method):
    table = predictions(repeats=1)
    dihedral = table.copy()
    dihedral.loc[dihedral["fold"] == 2, "label"] = 1 - dihedral["label"]
    one, other = recalibrate(table, 5, method), recalibrate(dihedral, 5, method)
    own = table["fold"] == 2
    np.testing.assert_array_equal(one["probability"][own], other["probability"][own])
    assert (one["probability"][~own] != other["probability"][~own]).all()


@pytest.mark.parametrize("method", METHODS)
def test_too_bold_probabilities_come_out_calibrated(method):
    slopes = []
    for seed in range(20):
        table = predictions(repeats=1, seed=seed)
        scaled = recalibrate(table, 5, method)
        before, after = (
            calibration_slope(rows["label"], rows["probability"]).value for rows in (table, scaled)
        )
        assert before < 0.6
        slopes.append(after)
    assert np.mean(slopes) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("method", METHODS)
def test_separated_certain_and_misleading_probabilities_stay_finite_and_in_order(method):
    table = predictions(repeats=1)
    for probability in (
        table["label"].astype(float),
        1 - table["label"] * 1.0,
        0.3 + 0.4 * table["label"],
    ):
        scaled = recalibrate(table.assign(probability=probability), 5, method)["probability"]
        assert scaled.between(0, 1).all()
        for _, rows in table.groupby("fold"):
            high = scaled[rows.index][probability[rows.index] > 0.5]
            low = scaled[rows.index][probability[rows.index] < 0.5]
            assert high.min() >= low.max()


def test_misleading_probabilities_become_the_prevalence():
    table = predictions(repeats=1).assign(probability=lambda t: 0.7 - 0.4 * t["label"])
    scaled = recalibrate(table, 5, "platt")
    for fold, rows in scaled.groupby("fold"):
        expected = smoothed(table["label"][table["fold"] != fold].to_numpy()).mean()
        np.testing.assert_allclose(rows["probability"], expected)


def test_other_folds_of_one_class_are_refused():
    table = predictions(repeats=1)
    table["label"] = (table["fold"] == 1).astype(int)
    with pytest.raises(ValueError, match="fold 1: the other folds of its repeat lack a class"):
        recalibrate(table, 5, "platt")
