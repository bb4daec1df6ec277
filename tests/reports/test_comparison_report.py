import json
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lymphoml.core.errors import InputError
from lymphoml.evaluation.paired import paired_differences
from lymphoml.evaluation.pooled import pool
from lymphoml.reports.comparison.compare import compare_runs
from lymphoml.reports.comparison.file import read_comparison, write_comparison
from lymphoml.reports.comparison.reference import papers_run
from lymphoml.reports.comparison.terminal import print_comparison
from lymphoml.reports.page.names import short_names
from tests.reports.fabricate import config, make_predictions, make_run


def make_sweep(folder):
    """Three runs on the same 90 patients: `b` the best by far, `c` the same as `a`."""
    first = make_predictions(90, 5, 1, skill=1.0, seed=0)
    better = make_predictions(90, 5, 1, skill=5.0, seed=0)
    for name, predictions in (("a", first), ("b", better), ("c", first)):
        make_run(folder / name, predictions=predictions, epochs=1)
    return [folder / name for name in "abc"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def comparison(sweep):
    return compare_runs(sweep, sweep[0], resamples=500)


def test_a_row_holds_the_runs_own_score_and_the_difference(sweep, comparison):
    rows = comparison.table.set_index(["run", "score"])
    tables = {path.name: pd.read_csv(path / "predictions.csv") for path in sweep}
    for name, table in tables.items():
        pooled = pool(table, 5)
        for score in ("balanced_accuracy", "auroc"):
            scored = pooled[score]
            assert rows.loc[(name, score), ["value", "low", "high"]].to_dict() == scored
    ordered = {name: table.sort_values("patient") for name, table in tables.items()}
    expected = paired_differences(
        ordered["a"]["label"], ordered["b"]["probability"], ordered["a"]["probability"], 500
    )
    for score, difference in expected.items():
        columns = ["difference", "difference_low", "difference_high", "p"]
        assert tuple(rows.loc[("b", score), columns]) == pytest.approx(difference)
        assert rows.loc[("c", score), "difference"] == 0
        assert rows.loc[("c", score), "p_holm"] == 1
        assert np.isnan(rows.loc[("a", score), "difference"])
    assert comparison.best["auroc"].name == "b"
    assert comparison.patients == 90


def test_a_run_that_is_the_reference_again_tells_nothing_about_detectable(comparison):
    """`c` differs on nobody: the median is `b`'s, and Holm's four tests ask for 1.2 times that."""
    rows = comparison.table.set_index(["run", "score"])["detectable"]
    for score, of in comparison.detectable.items():
        assert of["one"] == rows[("b", score)]
        assert of["holm"] / of["one"] == pytest.approx(
            (2.4977 + 0.8416) / (1.96 + 0.8416), abs=1e-3
        )


def test_the_files_say_the_same(comparison, tmp_path):
    content, table = write_comparison(comparison, tmp_path / "new")
    written = json.loads(content.read_text())
    assert written["reference"] == "a"
    assert written["configurations_tried"] == 3
    rows = pd.DataFrame(written["runs"]).set_index(["run", "score"]).astype(float)
    told = pd.read_csv(table).set_index(["run", "score"])
    assert set(told.pop("stratum")) == {"all"}
    assert set(told.pop("reference")) == {"a"}
    assert told.pop("pretraining").isna().all()
    pd.testing.assert_frame_equal(rows, told)
    assert written["best"]["balanced_accuracy"]["name"] == "b"
    assert written["runs"][0]["p"] is None
    first = content.read_bytes()
    write_comparison(comparison, tmp_path / "new")
    assert content.read_bytes() == first


def test_the_terminal_tells_every_number_with_its_interval(comparison):
    out = StringIO()
    print_comparison(comparison, Console(file=out, width=140))
    text = out.getvalue()
    rows = comparison.table.set_index(["run", "score"])
    for (_, _), row in rows.iterrows():
        assert f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in text
    better = rows.loc[("b", "auroc")]
    told = "{:+.3f} [{:+.3f}, {:+.3f}]"
    assert told.format(*better[["difference", "difference_low", "difference_high"]]) in text
    words = " ".join(text.split())
    assert "Holm over 4 differences, within each stratum" in words
    assert "Configurations tried: 3" in words
    assert f"{comparison.detectable['auroc']['one']:.3f} in one planned comparison" in words
    best = comparison.best["balanced_accuracy"]
    assert f"expect {best.expected:.3f} [{best.low:.3f}, {best.high:.3f}]" in words
    lines = text.splitlines()
    places = [next(i for i, line in enumerate(lines) if line.startswith(f"│ {n} ")) for n in "abc"]
    assert places[0] < places[1] < places[2]  # the reference, then the best first


def test_a_class_of_one_patient_leaves_gaps_and_no_error(tmp_path):
    table = pd.DataFrame({"patient": list("pqrs"), "fold": [0, 1] * 2, "label": [1, 1, 1, 0],
                          "probability": [0.9, 0.8, 0.3, 0.2]})  # fmt: skip
    two = config(**{"data.folds": 2})
    paths = [
        make_run(tmp_path / name, two, predictions=rows, epochs=1)
        for name, rows in (("a", table), ("b", table.assign(probability=[0.1, 0.7, 0.6, 0.4])))
    ]
    comparison = compare_runs(paths, paths[0], resamples=200)
    content, _ = write_comparison(comparison, tmp_path)
    assert json.loads(content.read_text())["best"]["auroc"]["expected"] is None
    out = StringIO()
    print_comparison(comparison, Console(file=out, width=140))
    assert "Too few patients to say" in out.getvalue()


def test_a_comparison_takes_two_runs(sweep):
    for paths in (sweep[:1], [sweep[0], sweep[0]]):
        with pytest.raises(InputError, match="two different runs"):
            compare_runs(paths, sweep[0])
    with pytest.raises(InputError, match="is none of runs"):
        compare_runs(sweep[:2], sweep[2])


def test_the_reports_run_is_found_where_there_is_one(tmp_path):
    papers = {"lr": 1e-4, "optim.lr": 1e-4}
    paths = [
        make_run(tmp_path / "a", config(), n=30, epochs=1),
        make_run(tmp_path / "b", config(**papers), n=30, epochs=1),
        make_run(
            tmp_path / "c",
            config(**papers, **{"optim._target_": "torch.optim.Adam"}),
            n=30,
            epochs=1,
        ),
    ]
    assert papers_run(paths) == paths[1]
    assert papers_run([paths[0], paths[2]]) is None
    paths.append(make_run(tmp_path / "d", config(**papers, seed=1), n=30, epochs=1))
    assert papers_run(paths) is None


def test_names_are_as_short_as_tells_them_apart():
    assert short_names([Path("runs/a/default"), Path("runs/a/lr=1")]) == ["default", "lr=1"]
    paths = [Path("runs/a/default"), Path("runs/b/default")]
    assert short_names(paths) == ["a/default", "b/default"]


@pytest.fixture
def with_hard(tmp_path):
    """The sweep, of which every third patient is reactive and every other in the hard stratum."""
    paths = make_sweep(tmp_path)
    patients = [f"Zebra{i}" for i in range(90)]
    strata = pd.DataFrame({"patient": patients, "hard": [i % 2 for i in range(90)]})
    for path in paths:
        strata.to_csv(path / "strata.csv", index=False)
    return paths


def test_the_hard_stratum_is_compared_apart(with_hard, tmp_path):
    comparison = compare_runs(with_hard, with_hard[0], resamples=300)
    hard = comparison.hard
    assert hard.patients == 45
    tables = {}
    for path in with_hard:
        table = pd.read_csv(path / "predictions.csv").sort_values("patient")
        tables[path.name] = table[table["patient"].str[5:].astype(int) % 2 == 1]
    rows = hard.table.set_index(["run", "score"])
    expected = paired_differences(
        tables["a"]["label"], tables["b"]["probability"], tables["a"]["probability"], 300
    )
    for score, difference in expected.items():
        columns = ["difference", "difference_low", "difference_high", "p"]
        assert tuple(rows.loc[("b", score), columns]) == pytest.approx(difference)
        pooled = pool(tables["b"], 5, [score])[score]
        assert rows.loc[("b", score), ["value", "low", "high"]].to_dict() == pooled
    assert hard.best["auroc"].name == "b"

    content, csv = write_comparison(comparison, tmp_path / "new")
    again = read_comparison(content)
    pd.testing.assert_frame_equal(again.hard.table, hard.table, check_dtype=False)
    assert again.hard.best == hard.best
    assert pd.read_csv(csv)["stratum"].value_counts().to_dict() == {"all": 6, "hard": 6}
    out = StringIO()
    print_comparison(comparison, Console(file=out, width=140))
    assert "AUROC, hard stratum, out of fold" in out.getvalue()


def test_a_stratum_without_reactive_patients_is_left_out(with_hard):
    labels = pd.read_csv(with_hard[0] / "predictions.csv").set_index("patient")["label"]
    strata = labels.rename("hard").reset_index()
    strata.to_csv(with_hard[0] / "strata.csv", index=False)
    assert compare_runs(with_hard, with_hard[0], resamples=100).hard is None


def test_a_run_that_drifted_is_named(with_hard):
    path = with_hard[1] / "environment.json"
    change = {"what": "version of torch", "before": "1", "now": "2"}
    session = {"when": "2026-01-01T00:00:00+00:00", "changes": [change]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"drift": [session]}))
    comparison = compare_runs(with_hard, with_hard[0], resamples=100)
    assert comparison.drifted == ("b",)
    out = StringIO()
    print_comparison(comparison, Console(file=out, width=140))
    assert "Drifted while they were made: b;" in out.getvalue()
