import numpy as np
import pytest
from scipy.stats import binom, norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from lymphoml.evaluation.paired import (
    PAIR_SCORES,
    draw_patients,
    paired_differences,
    permutation_test,
)
from lymphoml.evaluation.selection import best_of_n_bias, compare, holm, smallest_detectable
from tests.evaluation.simulated import simulate, truth


def test_each_model_has_a_row_per_score():
    labels, models = simulate(np.random.default_rng(0), (40, 20), [2.0, 2.0, 1.0])
    named = dict(zip("abc", models[:, None], strict=True))
    others = {name: named[name] for name in "ac"}
    table = compare(labels, others, named["b"], resamples=300, seed=3)
    assert table["p_holm"].tolist() == holm(table["p"]).tolist()
    table = table.set_index(["model", "score"])
    assert list(table.index) == [(name, score) for name in "ac" for score in PAIR_SCORES]
    for name in "ac":
        differences = paired_differences(labels, named[name], named["b"], 300, 3)
        for score, (*values, error) in differences.items():
            row = table.loc[(name, score)]
            assert row[["value", "low", "high", "p"]].tolist() == values
            assert row["detectable"] == smallest_detectable(error)


def test_holm_by_hand():
    """Sorted 0.01 0.02 0.03 0.04 times 4 3 2 1, then never falling."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.6]) == pytest.approx([1, 1])


def test_holm_rejects_what_its_steps_reject():
    """At each level alpha: reject from the least p on while p <= alpha / (tests left)."""
    p = np.random.default_rng(0).beta(0.3, 3, 40).round(3)  # some tied
    for alpha in (0.01, 0.05, 0.2, 0.5):
        rejected = 0
        while rejected < 40 and np.sort(p)[rejected] <= alpha / (40 - rejected):
            rejected += 1
        assert (holm(p) <= alpha).sum() == rejected


def test_an_undefined_difference_is_no_test():
    expected = [np.nan, 0.04, np.nan, 0.04]
    assert holm([np.nan, 0.02, np.nan, 0.04]) == pytest.approx(expected, nan_ok=True)
    assert np.isnan(holm([np.nan])).all()


def test_unseen_models_count_as_tests_of_p_1():
    labels, models = simulate(np.random.default_rng(1), (40, 20), [3.0, 2.5, 1.0])
    others = dict(zip("ab", models[:2, None], strict=True))
    table = compare(labels, others, models[2:], resamples=300, unseen=5)
    shown = np.append(table["p"], np.ones(5 * 2))
    assert table["p_holm"].tolist() == holm(shown)[:4].tolist()
    assert table["p_holm"].min() > compare(labels, others, models[2:], 300)["p_holm"].min()


def test_larger_families_get_more_permutations():
    labels, models = simulate(np.random.default_rng(2), (60, 40), [6.0, 0.5])
    table = compare(labels, {"a": models[:1]}, models[1:], resamples=100, unseen=500)
    assert table["p_holm"].max() < 0.05  # 9,999 permutations give 1,002 tests no less than 0.1
    few = compare(labels, {"a": models[:1]}, models[1:], resamples=100, unseen=9)
    assert few["p"].min() == pytest.approx(1e-4)


@pytest.mark.parametrize("comparisons", [1, 20])
def test_the_smallest_detectable_difference_has_a_power_of_80_percent(comparisons):
    shift = smallest_detectable(0.03, comparisons) / 0.03
    limit = norm.ppf(1 - 0.025 / comparisons)
    assert norm.sf(limit - shift) == pytest.approx(0.8, abs=1e-4)
    assert np.isnan(smallest_detectable(0.0))
    assert np.isnan(smallest_detectable(np.nan))


@pytest.mark.parametrize(
    ("simulations", "permutations"), [(40, 799), pytest.param(600, 999, marks=pytest.mark.slow)]
)
def test_ten_equal_models_seldom_give_a_false_winner(simulations, permutations):
    """One of ten against an eleventh, all equal, with Holm's correction and without.

    Three in ten of a logit's variance are the model's own, as between two seeds of a network.
    """
    random = np.random.default_rng(2)
    corrected = plain = 0
    for simulation in range(simulations):
        labels, models = simulate(random, (113, 50), [2.2] * 11)
        p = [
            permutation_test(score, labels == 1, model[None], models[:1], permutations, simulation)
            for model in models[1:]
            for score in PAIR_SCORES
        ]
        corrected += holm(p).min() < 0.05
        plain += min(p) < 0.05
    assert corrected <= binom.ppf(0.99, simulations, 0.05)
    assert plain > 0.2 * simulations  # what Holm is for


def test_the_best_is_named_with_its_score_and_optimism():
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
    """BBC-CV of Tsamardinos et al. 2018, in a loop with scikit-learn; then with a reference."""
    labels, models = simulate(np.random.default_rng(1), (14, 9), [0.5, 1.5, 1.5, 0.5])
    candidates, reference = models[:3], models[3]
    scores, gains = [], []
    for counts in np.hstack(draw_patients(14, 9, 60, seed=5)).astype(int):
        drawn, rest = np.repeat(np.arange(23), counts), counts == 0
        chosen_by = np.array([roc_auc_score(labels[drawn], model[drawn]) for model in candidates])
        best = candidates[chosen_by > chosen_by.max() - 1e-9]
        if len(set(labels[rest])) == 2:
            scores.append(np.mean([roc_auc_score(labels[rest], model[rest]) for model in best]))
            gains.append(scores[-1] - roc_auc_score(labels[rest], reference[rest]))
    given = (labels, dict(enumerate(candidates)), 60, 5)
    alone = best_of_n_bias(*given)["auroc"]
    expected = [np.mean(scores), *np.quantile(scores, [0.025, 0.975])]
    assert alone[2:5] == pytest.approx(expected, abs=1e-12)
    paired = best_of_n_bias(*given, reference=reference[None])["auroc"]
    expected = [np.mean(gains), *np.quantile(gains, [0.025, 0.975])]
    assert paired.gain == pytest.approx(expected, abs=1e-12)
    assert paired._replace(gain=None) == alone  # the reference changes nothing else


def test_a_choice_of_one_is_not_optimistic():
    labels, models = simulate(np.random.default_rng(2), (113, 50), [2.0])
    for best in best_of_n_bias(labels, {"only": models}, resamples=4000).values():
        assert best.optimism == pytest.approx(0, abs=0.003)


def test_ties_count_alike_in_any_order():
    labels, models = simulate(np.random.default_rng(3), (30, 20), [2.0, 2.0])
    one = best_of_n_bias(labels, {"a": models[:1]}, 200)
    copies = best_of_n_bias(labels, dict.fromkeys("abc", models[:1]), 200)
    forth = best_of_n_bias(labels, {"a": models[:1], "b": models[1:]}, 200)
    back = best_of_n_bias(labels, {"b": models[1:], "a": models[:1]}, 200)
    for score in PAIR_SCORES:
        assert copies[score][1:6] == pytest.approx(one[score][1:6])
        assert forth[score][1:6] == pytest.approx(back[score][1:6])


def test_the_best_of_ten_equal_models_is_optimistic_until_corrected():
    random = np.random.default_rng(4)
    true = truth([2.2])
    raw, corrected = ({score: [] for score in PAIR_SCORES} for _ in range(2))
    for simulation in range(60):
        labels, models = simulate(random, (113, 50), [2.2] * 10)
        found = best_of_n_bias(labels, dict(enumerate(models)), 100, simulation)
        for score, best in found.items():
            raw[score].append(best.score - true[score][0])
            corrected[score].append(best.expected - true[score][0])
    assert np.mean(raw["balanced_accuracy"]) > 0.02
    assert np.mean(raw["auroc"]) > 0.01
    for score in PAIR_SCORES:
        assert abs(np.mean(corrected[score])) < 0.012


def test_too_few_patients_leave_the_correction_undefined():
    models = {"a": np.array([[0.9, 0.2, 0.8]]), "b": np.array([[0.3, 0.2, 0.8]])}
    one = best_of_n_bias([1, 0, 1], models, reference=models["b"])["balanced_accuracy"]
    assert (one.name, one.score) == ("a", 1)
    assert np.isnan([one.expected, one.low, one.high, one.optimism, *one.gain]).all()
    assert np.isnan(best_of_n_bias([1, 1, 1], models)["auroc"].score)
