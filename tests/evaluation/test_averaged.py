import numpy as np
import pandas as pd
import pytest

from lymphoml.evaluation.metrics import SCORES, score_fold
from lymphoml.evaluation.paired import paired_differences
from lymphoml.evaluation.strata import averaged, over_repeats

N, FOLDS, REPEATS = 90, 3, 4
PATIENTS = np.array([f"P{i:02}" for i in range(N)])
LABELS = (np.arange(N) % 3 > 0).astype(int)
STRATA = pd.DataFrame({"hard": np.where(np.arange(N) % 2, "1", "0")}, PATIENTS)


@pytest.fixture
def cohort():
    """Predictions and baselines in no order, and the mean probabilities of both by patient."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "patient": np.tile(PATIENTS, REPEATS),
            "fold": np.concatenate(
                [repeat * FOLDS + random.permutation(N) % FOLDS for repeat in range(REPEATS)]
            ),
            "label": np.tile(LABELS, REPEATS),
        }
    )
    ours, theirs = (
        1 / (1 + np.exp(-random.normal(skill * (np.tile(LABELS, (REPEATS, 1)) - 0.5), 1.0)))
        for skill in (2.0, 1.0)
    )
    predictions = rows.assign(probability=ours.ravel()).sample(frac=1, random_state=1)
    baselines = rows[["patient", "fold"]].assign(
        prevalence=0.6, logistic_regression=theirs.ravel(), morphology=theirs.ravel() ** 2
    )
    return predictions, baselines.sample(frac=1, random_state=2), ours.mean(0), theirs.mean(0)


def test_each_patients_mean_is_scored_once_in_both_strata(cohort):
    predictions, baselines, ours, theirs = cohort
    found = averaged(predictions, STRATA, baselines, FOLDS)
    hard = np.arange(N) % 2 == 1
    for part, chosen in (("all", slice(None)), ("hard", hard)):
        for told, mean in (
            (found["scores"], ours),
            (found["baselines"]["logistic_regression"], theirs),
        ):
            expected = score_fold(LABELS[chosen], mean[chosen])
            for name in SCORES:
                assert told[part][name]["value"] == pytest.approx(expected[name])
    assert found["repeats"] == REPEATS


def test_its_gain_is_of_the_means(cohort):
    predictions, baselines, ours, theirs = cohort
    found = averaged(predictions, STRATA, baselines, FOLDS)
    expected = paired_differences(LABELS, ours, theirs)
    for name, difference in expected.items():
        assert found["gain"]["all"][name] == pytest.approx(difference._asdict())
    assert found["image_gain"]["reference"] == "morphology"
    alone = averaged(predictions, STRATA, None, FOLDS)
    assert alone["gain"] is None
    assert alone["scores"] == found["scores"]


def test_one_repeat_has_no_average(cohort):
    predictions, baselines, *_ = cohort
    first = predictions[predictions["fold"] < FOLDS]
    assert averaged(first, STRATA, baselines, FOLDS) is None


def test_the_same_repeat_twice_averages_to_itself(cohort):
    predictions, *_ = cohort
    once = predictions[predictions["fold"] < FOLDS].sort_values("patient", ignore_index=True)
    twice = pd.concat([once, once.assign(fold=once["fold"] + FOLDS)])
    columns = ["patient", "label", "probability"]
    pd.testing.assert_frame_equal(
        over_repeats(twice)[columns], once[columns], check_dtype=False, check_exact=False
    )
