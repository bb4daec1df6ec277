import numpy as np
import pandas as pd
import pytest

from lymphoml.core.errors import InputError
from lymphoml.reports.comparison.compare import align
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_predictions, make_run

TWICE = config(**{"data.folds": 2, "data.repeats": 2})


def rows(seed=0):
    return make_predictions(12, folds=2, repeats=2, skill=2.0, seed=seed)


def save(path, predictions, settings=TWICE):
    return read_run(make_run(path, settings, predictions=predictions, epochs=1))


def other(predictions, seed=1):
    """The same patients and folds, said otherwise."""
    probability = np.random.default_rng(seed).uniform(size=len(predictions))
    return predictions.assign(probability=probability)


def test_each_patient_keeps_a_column_whatever_the_order_of_rows(tmp_path):
    first = rows()
    second = other(first)
    runs = [
        save(tmp_path / "a", first),
        save(tmp_path / "b", second.sample(frac=1, random_state=3)),
    ]
    labels, models = align(runs)
    ids = sorted(first["patient"].unique())
    known = first.drop_duplicates("patient").set_index("patient")["label"]
    assert labels.tolist() == known[ids].tolist()
    for run, table in zip(runs, (first, second), strict=True):
        probability = table.assign(repeat=table["fold"] // 2).set_index(["repeat", "patient"])
        expected = [probability.loc[[(r, i) for i in ids], "probability"] for r in (0, 1)]
        assert models[run.path] == pytest.approx(np.array(expected))


def change(column, value):
    def spoil(table):
        table = table.copy()
        table.loc[3, column] = value
        return table

    return spoil


def exchange_folds(table):
    table = table.copy()
    one, two = table.index[table["fold"] == 0][0], table.index[table["fold"] == 1][0]
    table.loc[[one, two], "fold"] = [1, 0]
    return table


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda table: table[table["patient"] != "Zebra7"], "patient Zebra7 is not here and is in"),
        (lambda table: table.replace({"patient": {"Zebra7": "Yak"}}), "patient Yak is here and n"),
        (lambda table: table.assign(label=1 - table["label"]), "patient Zebra0 has label 1 here"),
        (change("label", 1), "patient Zebra3 has label 1 here and 0"),
        (exchange_folds, "is in fold"),
        (lambda table: table[table["fold"] < 2], "data.repeats is 1 here and 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_by_its_first_difference(tmp_path, spoil, says):
    good = rows()
    settings = config(**{"data.folds": 2, "data.repeats": 1 if "repeats" in says else 2})
    runs = [save(tmp_path / "a", good), save(tmp_path / "b", spoil(good), settings)]
    with pytest.raises(InputError) as caught:
        align(runs)
    [problem] = caught.value.problems
    assert says in problem
    assert problem.startswith(str(tmp_path / "b"))
    assert str(tmp_path / "a") in problem


def test_another_number_of_folds_is_told_before_the_folds(tmp_path):
    runs = [
        save(tmp_path / "a", rows()),
        save(tmp_path / "b", make_predictions(12, 4, 1, 2.0, 0), config(**{"data.folds": 4})),
    ]
    with pytest.raises(InputError, match=r"data\.folds is 4 here and 2 in"):
        align(runs)


def test_every_run_that_differs_has_its_line(tmp_path):
    good = rows()
    runs = [save(tmp_path / name, table) for name, table in
            (("a", good), ("b", rows(1)), ("c", other(good)), ("d", rows(2)))]  # fmt: skip
    with pytest.raises(InputError) as caught:
        align(runs)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        str(tmp_path / name) for name in "bd"
    ]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change("probability", np.nan), "patient Zebra3 has a probability that is none"),
        (change("probability", 1.5), "patient Zebra3 has a probability that is none"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "patient Zebra3 stands twice in a repeat"),
        (lambda t: t.drop(index=3), "patient Zebra3 is missing in a repeat"),
    ],
)
def test_damaged_predictions_are_told_by_patient(tmp_path, spoil, says):
    good = rows()
    run = save(tmp_path / "a", good)
    spoil(good).to_csv(tmp_path / "a" / "predictions.csv", index=False)
    with pytest.raises(InputError, match=says):
        align([read_run(run.path)])
