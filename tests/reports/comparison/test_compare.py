import json
import shutil
from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.evaluation.paired import best_of_n_bias, holm, paired_differences, smallest_detectable
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.comparison.compare import align, choose_reference, compare_pairs, compare_runs
from lymphoml.reports.comparison.output import print_comparison, write_comparison
from lymphoml.reports.format import format_estimate, format_score
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import (
    config,
    edit_json,
    list_files,
    make_baselines,
    make_predictions,
    make_run,
    make_strata,
)

TWICE = config(**{"data.folds": 3, "data.repeats": 2})
CLINICAL = "logistic_regression"
SCORES = ("balanced_accuracy", "auroc")
DIFFERENCE = ["difference", "difference_low", "difference_high", "p"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Three runs: `b` the best, `c` the same as `a`; two repeats, baselines, a hard stratum."""
    folder = tmp_path_factory.mktemp("sweep")
    rows = make_predictions(60, 3, 2, skill=1.0, seed=0)
    better = make_predictions(60, 3, 2, skill=4.0, seed=2)["probability"]
    baselines = make_baselines(rows, logistic_regression=1.0, random_forest=0.0)
    for number, name in enumerate("abc"):
        own = rows.assign(probability=better) if name == "b" else rows
        make_run(
            folder / name, TWICE | {"seed": number}, epochs=1,
            predictions=own.sample(frac=1, random_state=number),
            baselines=baselines.sample(frac=1, random_state=number), strata=make_strata(rows),
        )  # fmt: skip
    return [folder / name for name in "abc"]


@pytest.fixture(scope="module")
def comparison(sweep):
    return compare_runs(sweep, sweep[0], resamples=300)


@pytest.fixture(scope="module")
def with_baseline(sweep):
    return compare_runs(sweep, CLINICAL, resamples=300, tried=9)


def table(run, column=None, hard=False):
    rows = pd.read_csv(run / "predictions.csv")
    if column:
        baseline = pd.read_csv(run / "baselines.csv")[["patient", "fold", column]]
        rows = rows.merge(baseline, on=["patient", "fold"]).assign(probability=lambda t: t[column])
    if hard:
        strata = pd.read_csv(run / "strata.csv").set_index("patient")["hard"]
        rows = rows[rows["patient"].map(strata) == 1]
    return rows.assign(repeat=rows["fold"] // 3).sort_values(["repeat", "patient"])


def arrays(rows):
    """Labels (n) and probabilities (r, n)."""
    n = rows["patient"].nunique()
    return rows["label"].to_numpy()[:n], rows["probability"].to_numpy().reshape(2, n)


@pytest.mark.parametrize("stratum", ["all", "hard"])
def test_each_row_is_the_runs_score_and_its_paired_difference(sweep, comparison, stratum):
    hard, part = stratum == "hard", comparison.strata[stratum]
    assert part.n_patients == (30 if hard else 60)
    rows = part.table.set_index(["run", "score"])
    for path in sweep:
        pooled = pool(table(path, hard=hard), 3, SCORES)
        for score in SCORES:
            row = rows.loc[(path.name, score), ["value", "low", "high"]]
            assert row.to_dict() == pytest.approx(pooled[score])
    labels, reference = arrays(table(sweep[0], hard=hard))
    _, better = arrays(table(sweep[1], hard=hard))
    for score, difference in paired_differences(labels, better, reference, 300).items():
        assert tuple(rows.loc[("b", score), DIFFERENCE]) == pytest.approx(difference[:4])
        smallest = smallest_detectable(difference.standard_error)
        assert rows.loc[("b", score), "detectable"] == pytest.approx(smallest)
        assert rows.loc[("c", score), "difference"] == 0
        assert rows.loc[("c", score), "p_holm"] == 1
        assert np.isnan(rows.loc[("a", score), "difference"])
        assert part.best[score].name == "b"
        ranked = part.table[part.table["score"] == score]["run"].tolist()
        assert ranked == ["a", "b", "c"]  # the reference, then the best first


def test_the_smallest_detectable_difference_is_of_runs_that_differ(comparison):
    rows = comparison.strata["all"].table.set_index(["run", "score"])["detectable"]
    for score, smallest in comparison.strata["all"].smallest_detectable.items():
        assert smallest["single"] == rows[("b", score)]
        # Holm's four tests need z(1 - 0.05 / 8) in place of z(1 - 0.05 / 2).
        ratio = (2.4977 + 0.8416) / (1.96 + 0.8416)
        assert smallest["holm"] / smallest["single"] == pytest.approx(ratio, abs=1e-3)


def test_a_baseline_is_compared_patient_by_patient(sweep, with_baseline):
    part = with_baseline.strata["all"]
    labels, baseline = arrays(table(sweep[0], CLINICAL))
    models = {path.name: arrays(table(path))[1] for path in sweep}
    rows = part.table[~part.table["is_reference"]].set_index(["run", "score"])
    for name, model in models.items():
        for score, difference in paired_differences(labels, model, baseline, 300).items():
            assert tuple(rows.loc[(name, score), DIFFERENCE])[:1] == pytest.approx(difference[:1])
    reference = part.table[part.table["is_reference"]].set_index("score")
    pooled = pool(table(sweep[0], CLINICAL), 3, SCORES)
    for score in SCORES:
        values = reference.loc[score, ["value", "low", "high"]].to_dict()
        assert values == pytest.approx(pooled[score])
        best = best_of_n_bias(labels, models, 300, reference=baseline)[score]
        assert part.best[score].gain == pytest.approx(best.gain)
    assert (with_baseline.reference, part.n_tests) == ("logistic regression", 18)  # 2 x 9
    assert set(with_baseline.strata) == {"all", "hard"}


def test_files_and_terminal_have_every_number(with_baseline, tmp_path):
    content, csv = write_comparison(with_baseline, tmp_path / "new")
    written = json.loads(content.read_text())
    assert (written["reference"], written["configurations_tried"]) == ("logistic regression", 9)
    rows = pd.read_csv(csv)
    assert rows["stratum"].value_counts().to_dict() == {"all": 8, "hard": 8}
    for name, part in written["strata"].items():
        expected = with_baseline.strata[name].table
        both = [pd.DataFrame(part["results"]),
                rows[rows["stratum"] == name].drop(columns=["stratum", "reference"])]  # fmt: skip
        for found in both:
            pd.testing.assert_frame_equal(found.reset_index(drop=True), expected, check_dtype=False)
        assert part["best"]["auroc"]["gain"]["low"] is not None
    text = printed(with_baseline)
    for part in with_baseline.strata.values():
        shown = [f"Holm over {part.n_tests} differences"]
        shown += [format_estimate(row) for row in part.table.to_dict("records")]
        shown += [format_score(each["holm"]) for each in part.smallest_detectable.values()]
        shown += [format_estimate(part.best[score].gain._asdict(), signed=True) for score in SCORES]
        assert not [each for each in shown if each not in text]
    assert "Configurations tried: 9" in text


def printed(comparison):
    print_comparison(comparison, Console(file=(out := StringIO()), width=140))
    return " ".join(out.getvalue().split())


def test_one_run_is_enough_for_a_baseline_and_has_no_optimism(sweep):
    assert "Best of" not in printed(compare_runs(sweep[1:2], CLINICAL, 100))


def test_a_class_of_one_patient_leaves_gaps(tmp_path):
    rows = pd.DataFrame({"patient": list("pqrs"), "fold": [0, 1] * 2, "label": [1, 1, 1, 0],
                         "probability": [0.9, 0.8, 0.3, 0.2]})  # fmt: skip
    others = rows.assign(probability=[0.1, 0.7, 0.6, 0.4])
    two = config(**{"data.folds": 2})
    paths = [make_run(tmp_path / name, two, predictions=own, epochs=1)
             for name, own in (("a", rows), ("b", others))]  # fmt: skip
    found = compare_runs(paths, paths[0], resamples=200)
    content, _ = write_comparison(found, tmp_path)
    best = json.loads(content.read_text())["strata"]["all"]["best"]["auroc"]
    assert best["expected"] is None
    assert "Too few patients" in printed(found)


@pytest.fixture
def paths(sweep, tmp_path):
    """Copies, to change."""
    return [shutil.copytree(path, tmp_path / path.name) for path in sweep]


def test_a_baseline_must_be_the_same_up_to_rounding(paths):
    file = paths[1] / "baselines.csv"
    stored = pd.read_csv(file)
    stored.assign(**{CLINICAL: stored[CLINICAL] * (1 - 1e-8)}).to_csv(file, index=False)
    list_files(paths[1])
    assert compare_runs(paths[:2], CLINICAL, 100).strata["all"].n_tests == 4
    stored.assign(**{CLINICAL: stored[CLINICAL] * (1 - 1e-4)}).to_csv(file, index=False)
    list_files(paths[1])
    with pytest.raises(InputError, match=r"/b and .*/a were trained with other"):
        compare_runs(paths, CLINICAL, 100)


def test_the_hard_stratum_needs_both_classes_and_changed_runs_are_named(paths, tmp_path):
    labels = table(paths[0]).drop_duplicates("patient").set_index("patient")["label"]
    labels.rename("hard").reset_index().to_csv(paths[1] / "strata.csv", index=False)
    change = {"what": "version of torch", "before": "1", "now": "2"}
    session = {"when": "2026-01-01T00:00:00+00:00", "changes": [change]}
    edit_json(paths[1] / "environment.json", changes=[session])
    found = compare_runs(paths, paths[0], resamples=100)
    assert set(found.strata) == {"all"}  # the best run's strata decide
    content, _ = write_comparison(found, tmp_path)
    assert json.loads(content.read_text())["changed_environment"] == ["b"]


def test_the_papers_configuration_is_the_reference_of_a_sweep(tmp_path):
    papers = {"lr": 1e-4, "optim.lr": 1e-4}
    adam = papers | {"optim._target_": "torch.optim.Adam"}
    paths = [make_run(tmp_path / name, config(**changes), n=30, epochs=1)
             for name, changes in (("a", {}), ("b", papers), ("c", adam))]  # fmt: skip
    assert choose_reference(None, paths, is_list=False)[0] == paths[1]
    assert choose_reference(None, paths, is_list=True)[0] == paths[0]
    assert choose_reference(None, [paths[2], paths[0]], is_list=False)[0] == paths[2]
    assert choose_reference("c", paths, is_list=False)[0] == paths[2]
    assert choose_reference("clinical", paths, is_list=False)[0] == CLINICAL
    paths[0].rename(tmp_path / CLINICAL)
    named = [tmp_path / CLINICAL, *paths[1:]]
    assert choose_reference(CLINICAL, named, is_list=False)[0] == named[0]  # a run comes first


TWELVE = make_predictions(12, folds=2, repeats=2, skill=2.0, seed=0)


def save(path, predictions=TWELVE, repeats=2, folds=2):
    settings = config(**{"data.folds": folds, "data.repeats": repeats})
    return read_run(make_run(path, settings, predictions=predictions, epochs=1))


def change(column, value):
    """TWELVE with another value in its fourth row."""
    return TWELVE.assign(**{column: TWELVE[column].where(TWELVE.index != 3, value)})


@pytest.mark.parametrize(("changed", "difference"), [
    (TWELVE[TWELVE["patient"] != "Zebra7"], "patient Zebra7"),
    (TWELVE.replace({"patient": {"Zebra7": "Yak"}}), "patient Yak"),
    (change("label", 1), "patient Zebra3"),
    (make_predictions(12, 2, 2, 2.0, seed=2), "has another fold"),
    (TWELVE[TWELVE["fold"] < 2], "data.repeats is 1 here and 2"),
    (make_predictions(12, 4, 1, 2.0, 0), "data.folds is 4 here and 2"),
])  # fmt: skip
def test_runs_that_differ_are_refused_with_a_difference_each(tmp_path, changed, difference):
    repeats, folds = 1 if "data" in difference else 2, 4 if "folds is" in difference else 2
    differing = [save(tmp_path / name, changed, repeats, folds) for name in "bd"]
    same = save(tmp_path / "c", TWELVE.assign(probability=0.3))
    with pytest.raises(InputError) as caught:
        align([save(tmp_path / "a"), differing[0], same, differing[1]])
    for problem, run in zip(caught.value.problems, differing, strict=True):
        assert difference in problem
        assert problem.startswith(str(run.path))
        assert str(tmp_path / "a") in problem


def test_runs_of_other_hard_strata_are_refused(tmp_path):
    runs = [save(tmp_path / name) for name in "ab"]
    runs[1].config["data"]["hard_stratum"] = {"column": "lymphocyte_count", "max": 20}
    with pytest.raises(InputError, match=r"data\.hard_stratum is .*20"):
        align(runs)


@pytest.mark.parametrize("changed", [
    change("probability", np.nan), change("probability", 1.5),
    pd.concat([TWELVE, TWELVE.iloc[[3]]]), TWELVE.drop(index=3),
], ids=["nan", "1.5", "twice", "none"])  # fmt: skip
def test_corrupt_predictions_name_the_patient(tmp_path, changed):
    path = save(tmp_path / "a").path
    changed.to_csv(path / "predictions.csv", index=False)
    list_files(path)
    with pytest.raises(InputError, match="patient Zebra3"):
        align([read_run(path)])


def test_every_pair_is_compared_once_and_corrected_together(sweep, comparison, tmp_path, capsys):
    pairs = compare_pairs(comparison, resamples=300)
    assert [tuple(row) for row in pairs[["run", "other"]].to_numpy()[::2]] == [
        ("b", "a"), ("b", "c"), ("a", "c"),
    ]  # fmt: skip
    labels, aligned = align(list(comparison.runs.values()))
    expected = paired_differences(labels, aligned[sweep[1]], aligned[sweep[2]], 300)
    for row in pairs[pairs["run"].eq("b") & pairs["other"].eq("c")].to_dict("records"):
        assert [row[end] for end in ("value", "low", "high")] == list(expected[row["score"]][:3])
        assert row["p"] < 0.01
    assert pairs["p_holm"].tolist() == holm(pairs["p"]).tolist()  # over all six
    assert pairs["p"].tolist()[4:] == [1, 1]  # a and c are the same
    of_more = compare_pairs(replace(comparison, tried=5), resamples=300)
    assert of_more["p_holm"].tolist() == holm(of_more["p"], unseen=14).tolist()  # of 20
    main(["compare", f"runs=[{','.join(map(str, sweep))}]", f"out={tmp_path}", "pairs=true"])
    assert pd.read_csv(tmp_path / "comparison_pairs.csv")["run"].tolist() == pairs["run"].tolist()
    assert "2 of 3 pairs of runs differ in AUROC" in capsys.readouterr().out
