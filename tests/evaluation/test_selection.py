import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lymphoml.evaluation.paired import PAIR_SCORES as SCORES
from lymphoml.evaluation.paired import draw_patients
from lymphoml.evaluation.selection import best_of_n_bias
from tests.evaluation.simulated import simulate, truth


def test_the_best_is_named_with_its_score():
    labels, models = simulate(np.random.default_rng(0), (60, 30), [1.0, 3.0, 2.0])
    best = best_of_n_bias(labels, dict(zip("abc", models[:, None], strict=True)), resamples=300)
    for score, oracle in (
        ("balanced_accuracy", balanced_accuracy_score(labels, models[1] > 0.5)),
        ("auroc", roc_auc_score(labels, models[1])),
    ):
        assert best[score].name == "b"
        assert best[score].score == pytest.approx(oracle)
        assert best[score].optimism == best[score].score - best[score].expected
        assert best[score].low < best[score].expected < best[score].high


def test_each_resample_chooses_and_the_patients_left_out_score():
    """BBC-CV of Tsamardinos et al. 2018, in a loop with scikit-learn."""
    labels, models = simulate(np.random.default_rng(1), (14, 9), [0.5, 1.5, 1.5])
    left_out = []
    for counts in np.hstack(draw_patients(14, 9, 60, seed=5)).astype(int):
        drawn, rest = np.repeat(np.arange(23), counts), counts == 0
        chosen_by = np.array([roc_auc_score(labels[drawn], model[drawn]) for model in models])
        best = models[chosen_by > chosen_by.max() - 1e-9]
        if len(set(labels[rest])) == 2:
            left_out.append(np.mean([roc_auc_score(labels[rest], model[rest]) for model in best]))
    best = best_of_n_bias(labels, dict(enumerate(models)), resamples=60, seed=5)["auroc"]
    assert best.expected == pytest.approx(np.mean(left_out), abs=1e-12)
    assert (best.low, best.high) == pytest.approx(np.quantile(left_out, [0.025, 0.975]), abs=1e-12)


def test_the_gain_of_the_choice_is_scored_on_the_patients_left_out():
    """The same loop, with a reference that is scored on whom the choice is scored on."""
    labels, models = simulate(np.random.default_rng(6), (14, 9), [1.5, 1.5, 0.5])
    gains = []
    for counts in np.hstack(draw_patients(14, 9, 60, seed=5)).astype(int):
        drawn, rest = np.repeat(np.arange(23), counts), counts == 0
        chosen_by = np.array([roc_auc_score(labels[drawn], model[drawn]) for model in models[:2]])
        best = models[:2][chosen_by > chosen_by.max() - 1e-9]
        if len(set(labels[rest])) == 2:
            theirs = roc_auc_score(labels[rest], models[2][rest])
            ours = [roc_auc_score(labels[rest], model[rest]) for model in best]
            gains.append(np.mean(ours) - theirs)
    two = dict(enumerate(models[:2]))
    told = best_of_n_bias(labels, two, resamples=60, seed=5, reference=models[2:])["auroc"]
    expected = [np.mean(gains), *np.quantile(gains, [0.025, 0.975])]
    assert told.gain == pytest.approx(expected, abs=1e-12)
    alone = best_of_n_bias(labels, two, resamples=60, seed=5)["auroc"]
    assert told._replace(gain=None) == alone  # a reference changes nothing that is not about it


def test_a_choice_of_one_flatters_nobody():
    labels, models = simulate(np.random.default_rng(2), (113, 50), [2.0])
    for best in best_of_n_bias(labels, {"only": models}, resamples=4000).values():
        assert best.optimism == pytest.approx(0, abs=0.003)


def test_equally_good_ones_count_alike_in_any_order():
    labels, models = simulate(np.random.default_rng(3), (30, 20), [2.0, 2.0])
    one = best_of_n_bias(labels, {"a": models[:1]}, 200)
    copies = best_of_n_bias(labels, dict.fromkeys("abc", models[:1]), 200)
    for score in SCORES:
        assert copies[score][1:6] == pytest.approx(one[score][1:6])
    there = best_of_n_bias(labels, {"a": models[:1], "b": models[1:]}, 200)
    back = best_of_n_bias(labels, {"b": models[1:], "a": models[:1]}, 200)
    for score in SCORES:
        assert there[score][1:6] == pytest.approx(back[score][1:6])


def test_of_ten_equal_ones_the_best_flatters_and_the_correction_does_not():
    random = np.random.default_rng(4)
    true = truth([2.2])
    told, corrected = ({score: [] for score in SCORES} for _ in range(2))
    for simulation in range(100):
        labels, models = simulate(random, (113, 50), [2.2] * 10)
        for score, best in best_of_n_bias(labels, dict(enumerate(models)), 100, simulation).items():
            told[score].append(best.score - true[score][0])
            corrected[score].append(best.expected - true[score][0])
    assert np.mean(told["balanced_accuracy"]) > 0.02
    assert np.mean(told["auroc"]) > 0.01
    for score in SCORES:
        assert abs(np.mean(corrected[score])) < 0.01


def test_too_few_patients_leave_the_correction_undefined():
    models = {"a": np.array([[0.9, 0.2, 0.8]]), "b": np.array([[0.3, 0.2, 0.8]])}
    one = best_of_n_bias([1, 0, 1], models)["balanced_accuracy"]
    assert (one.name, one.score) == ("a", 1)
    assert np.isnan([one.expected, one.low, one.high, one.optimism]).all()
    assert np.isnan(best_of_n_bias([1, 1, 1], models)["auroc"].score)
    beside = best_of_n_bias([1, 0, 1], models, reference=models["b"])["auroc"]
    assert np.isnan(beside.gain).all()
