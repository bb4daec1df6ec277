import numpy as np
import pandas as pd
import pytest

from lymphoml.core.errors import InputError
from lymphoml.reports.comparison.alignment import align
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_predictions, make_run

TWICE = config(**{"data.folds": 2, "data.repeats": 2})


def rows(seed=0):
    return make_predictions(12, folds=2, repeats=2, skill=2.0, seed=seed)


def save(path, predictions, settings=TWICE):
    return read_run(make_run(path, settings, predictions=predictions, epochs=1))


def other(predictions, seed=1):
    """The same patients and folds with other probabilities."""
    probability = np.random.default_rng(seed).uniform(size=len(predictions))
    return predictions.assign(probability=probability)


def test_patients_are_in_one_order_whatever_the_order_of_rows(tmp_path):
    first = rows()
    second = other(first)
    shuffled = second.sample(frac=1, random_state=3)
    runs = [save(tmp_path / "a", first), save(tmp_path / "b", shuffled)]
    labels, models = align(runs)
    ids = sorted(first["patient"].unique())
    known = first.drop_duplicates("patient").set_index("patient")["label"]
    assert labels.to_dict() == known.to_dict()
    assert list(labels.index) == ids
    for run, table in zip(runs, (first, second), strict=True):
        probability = table.assign(repeat=table["fold"] // 2).set_index(["repeat", "patient"])
        expected = [probability.loc[[(r, i) for i in ids], "probability"] for r in (0, 1)]
        assert models[run.path] == pytest.approx(np.array(expected))


def change(column, value):
    def changed(table):
        table = table.copy()
        table.loc[3, column] = value
        return table

    return changed


def exchange_folds(table):
    table = table.copy()
    one, two = table.index[table["fold"] == 0][0], table.index[table["fold"] == 1][0]
    table.loc[[one, two], "fold"] = [1, 0]
    return table


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (lambda table: table[table["patient"] != "Zebra7"], "patient Zebra7"),
        (lambda table: table.replace({"patient": {"Zebra7": "Yak"}}), "patient Yak"),
        (change("label", 1), "patient Zebra3"),
        (exchange_folds, "has another fold"),
        (lambda table: table[table["fold"] < 2], "data.repeats is 1 here and 2"),
        (lambda table: make_predictions(12, 4, 1, 2.0, 0), "data.folds is 4 here and 2"),
    ],
)
def test_runs_that_differ_are_refused_with_a_difference_each(tmp_path, changed, difference):
    good = rows()
    folds = 4 if "folds is" in difference else 2
    settings = config(**{"data.folds": folds, "data.repeats": 1 if "data" in difference else 2})
    runs = [save(tmp_path / "a", good), save(tmp_path / "b", changed(good), settings),
            save(tmp_path / "c", other(good)), save(tmp_path / "d", rows(2))]  # fmt: skip
    with pytest.raises(InputError) as caught:
        align(runs)
    first, second = caught.value.problems
    assert difference in first
    assert first.startswith(str(tmp_path / "b"))
    assert str(tmp_path / "a") in first
    assert second.startswith(str(tmp_path / "d"))


@pytest.mark.parametrize(
    "changed",
    [change("probability", np.nan), change("probability", 1.5),
     lambda table: pd.concat([table, table.iloc[[3]]]), lambda table: table.drop(index=3)],
)  # fmt: skip
def test_corrupt_predictions_name_the_patient(tmp_path, changed):
    good = rows()
    run = save(tmp_path / "a", good)
    changed(good).to_csv(tmp_path / "a" / "predictions.csv", index=False)
    with pytest.raises(InputError, match="patient Zebra3"):
        align([read_run(run.path)])
