"""Runs against a baseline that each of them holds, and configurations that are not here."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lymphoml.cli.main import _run
from lymphoml.core.errors import InputError
from lymphoml.evaluation.paired import paired_differences
from lymphoml.evaluation.pooled import pool
from lymphoml.evaluation.selection import best_of_n_bias, holm
from lymphoml.reports.comparison.compare import compare_runs
from lymphoml.reports.comparison.file import read_comparison, write_comparison
from lymphoml.reports.comparison.terminal import print_comparison
from lymphoml.reports.page.chart_plotly import plotly_bundle
from lymphoml.reports.page.overview import write_overview
from lymphoml.reports.page.wording import signed
from tests.reports.fabricate import config, make_predictions, make_run

TWICE = config(**{"data.folds": 3, "data.repeats": 2})
CLINICAL = "logistic_regression"
SCORES = ("balanced_accuracy", "auroc")


@pytest.fixture
def sweep(tmp_path):
    """Two runs of two repeats, rows and baselines in any order; with a hard stratum."""
    rows = make_predictions(60, 3, 2, skill=1.0, seed=0)
    floor = rows.rename(columns={"probability": CLINICAL}).drop(columns="label")
    floor["random_forest"] = 0.5
    for number, skill in enumerate((2.0, 4.0)):
        drawn = make_predictions(60, 3, 2, skill, seed=number + 1)["probability"]
        said = rows.assign(probability=drawn).sample(frac=1, random_state=number)
        run = make_run(
            tmp_path / "sweep" / "ab"[number], TWICE | {"seed": number}, epochs=1,
            predictions=said, baselines=floor.sample(frac=1, random_state=number + 5),
        )  # fmt: skip
        hard = pd.DataFrame({"patient": sorted(set(rows["patient"]))})
        hard.assign(hard=[str(place % 2) for place in range(60)]).to_csv(
            run / "strata.csv", index=False
        )
    return [tmp_path / "sweep" / name for name in "ab"]


def arrays(run, column=None):
    """Labels (n) and probabilities (r, n), of the run or of its baseline."""
    table = pd.read_csv(run / "predictions.csv")
    if column:
        beside = pd.read_csv(run / "baselines.csv")[["patient", "fold", column]]
        table = table.merge(beside, on=["patient", "fold"]).assign(probability=lambda t: t[column])
    table = table.assign(repeat=table["fold"] // 3).sort_values(["repeat", "patient"])
    return table["label"].to_numpy()[:60], table["probability"].to_numpy().reshape(2, 60)


def test_each_run_is_compared_with_the_baseline_patient_by_patient(sweep):
    told = compare_runs(sweep, CLINICAL, resamples=300)
    rows = told.table.set_index(["run", "score"])
    labels, floor = arrays(sweep[0], CLINICAL)
    for run in sweep:
        for score, difference in paired_differences(labels, arrays(run)[1], floor, 300).items():
            columns = ["difference", "difference_low", "difference_high", "p"]
            assert tuple(rows.loc[(run.name, score), columns]) == pytest.approx(difference)
    assert told.table["p_holm"].tolist() == pytest.approx(holm(told.table["p"]).tolist())
    assert told.tests == 4
    beside = pd.read_csv(sweep[0] / "predictions.csv").merge(
        pd.read_csv(sweep[0] / "baselines.csv"), on=["patient", "fold"]
    )
    pooled = pool(beside.assign(probability=beside[CLINICAL]), 3, SCORES)
    assert told.baseline == {score: pooled[score] for score in SCORES}
    models = {run.name: arrays(run)[1] for run in sweep}
    assert told.best == best_of_n_bias(labels, models, 300, reference=floor)
    assert told.hard is not None
    assert told.hard.patients == 30
    assert told.hard.baseline != told.baseline
    assert not np.isnan(told.hard.best["auroc"].gain).any()


def test_a_gain_is_the_one_that_the_runs_own_page_tells(sweep):
    gain = json.loads((sweep[1] / "metrics.json").read_text())["gain"]
    rows = compare_runs(sweep, CLINICAL).table.set_index(["run", "score"])
    assert gain["reference"] == CLINICAL
    for score in SCORES:
        columns = ["difference", "difference_low", "difference_high", "p"]
        told = [gain["all"][score][key] for key in ("value", "low", "high", "p")]
        assert list(rows.loc[("b", score), columns]) == pytest.approx(told)


def test_one_run_is_enough_and_nobody_chose_it(sweep):
    told = compare_runs(sweep[1:], CLINICAL, resamples=200)
    assert told.tests == 2
    out = StringIO()
    print_comparison(told, Console(file=out, width=140))
    assert "differences to logistic regression" in out.getvalue()
    assert "Best of" not in out.getvalue()


def test_a_run_of_a_baselines_name_wins(sweep):
    named = sweep[0].rename(sweep[0].parent / CLINICAL)
    folder = named.parent
    _run(["compare", f"runs={folder}", f"reference={CLINICAL}", "resamples=100"])
    assert json.loads((folder / "comparison.json").read_text())["baseline"] is None
    _run(["compare", f"runs={folder}", "reference=clinical", "resamples=100"])
    told = read_comparison(folder / "comparison.json")
    assert told.baseline is not None
    assert set(told.table["run"]) == {"b", CLINICAL}  # both compared, one called as the baseline
    assert told.table["difference"].notna().all()


def test_rounding_is_no_other_baseline(sweep):
    path = sweep[1] / "baselines.csv"
    table = pd.read_csv(path)
    table.assign(**{CLINICAL: table[CLINICAL] * (1 - 1e-8)}).to_csv(path, index=False)
    assert compare_runs(sweep, CLINICAL, 100).tests == 4
    table.assign(**{CLINICAL: table[CLINICAL] * (1 - 1e-4)}).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"sweep/b and .*sweep/a were given other"):
        compare_runs(sweep, CLINICAL, 100)
    assert compare_runs(sweep, "random_forest", 100).tests == 4  # that one is the same


def test_what_is_neither_run_nor_baseline_is_told_with_both_lists(sweep):
    path = sweep[1] / "baselines.csv"
    pd.read_csv(path).drop(columns="random_forest").to_csv(path, index=False)
    with pytest.raises(InputError, match=r"one of the runs: .*a, .*b; or .*: logistic_regression "):
        compare_runs(sweep, "nonsense", 100)
    with pytest.raises(InputError, match=r"b has no such baseline in its baselines.csv, as others"):
        compare_runs(sweep, "random_forest", 100)
    for run in sweep:
        (run / "baselines.csv").unlink()
    with pytest.raises(InputError, match="a baseline of all of them: none is there"):
        compare_runs(sweep, CLINICAL, 100)


@pytest.mark.parametrize(("reference", "tests"), [("clinical", 14), ("a", 12)])
def test_configurations_that_are_not_here_are_counted_stored_and_told(sweep, reference, tests):
    words = ["compare", f"runs={sweep[0].parent}", f"reference={reference}", "resamples=200"]
    _run([*words, "tried=7"])
    path = sweep[0].parent / "comparison.json"
    written = json.loads(path.read_text())
    assert (written["configurations_tried"], written["tests"]) == (7, tests)
    told = read_comparison(path)
    for part in (told, told.hard):
        seen = part.table["p"].dropna()
        shown = np.append(seen, np.ones(tests - len(seen)))
        assert part.table["p_holm"].dropna().tolist() == pytest.approx(holm(shown)[: len(seen)])
    out = StringIO()
    print_comparison(told, Console(file=out, width=140))
    words = " ".join(out.getvalue().split())
    assert f"Holm over {tests} differences" in words
    assert "Configurations tried: 7, as given; 5 of them are not here." in words


def test_the_file_gives_back_what_was_compared(sweep, tmp_path):
    told = compare_runs(sweep, CLINICAL, resamples=200, tried=9)
    path, table = write_comparison(told, tmp_path / "out")
    again = read_comparison(path)
    for mine, theirs in ((told, again), (told.hard, again.hard)):
        pd.testing.assert_frame_equal(mine.table, theirs.table)
        for name in ("reference", "patients", "tried", "best", "baseline", "detectable"):
            assert getattr(mine, name) == getattr(theirs, name), name
    assert set(pd.read_csv(table)["reference"]) == {CLINICAL}


def test_the_page_of_the_runs_names_the_baseline_in_words(sweep):
    folder = sweep[0].parent
    _run(["compare", f"runs={folder}", "reference=clinical", "resamples=200", "tried=9"])
    page = write_overview(sweep, folder / "report.html").read_text().replace(plotly_bundle(), "")
    page = " ".join(page.split())
    assert "differences to logistic regression on the same patients" in page
    written = json.loads((folder / "comparison.json").read_text())
    for part in (written, written["hard"]):
        assert signed(part["runs"][0]["difference"]) in page
        gain = part["best"]["auroc"]["gain"]
        assert "{value:+.3f} [{low:+.3f}, {high:+.3f}] over logistic".format(**gain) in page
        row = page.partition('<th scope="row">logistic regression</th>')
        assert f"{part['baseline']['auroc']['value']:.3f}" in row[2]
    assert page.count("<td>reference</td>") == 4
    assert "Configurations tried: 9, as given; 7 of them are not here." in page


@pytest.mark.parametrize("change", ["text", "scores"])
def test_a_comparison_that_holds_no_numbers_is_damaged(sweep, change):
    folder = sweep[0].parent
    _run(["compare", f"runs={folder}", "reference=clinical", "resamples=100"])
    path = folder / "comparison.json"
    written = json.loads(path.read_text())
    if change == "text":
        written["best"]["auroc"]["gain"]["low"] = "much"
    else:
        del written["baseline"]["auroc"]
    path.write_text(json.dumps(written))
    with pytest.raises(InputError, match="is damaged; run python -m lymphoml compare again"):
        read_comparison(path)
    page = write_overview(sweep, folder / "report.html").read_text()
    assert "is of other runs than these, or damaged" in page
