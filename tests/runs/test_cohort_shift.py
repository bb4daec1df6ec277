"""What is found where patients differ from the training patients."""

import numpy as np
import pandas as pd
import pytest

from lymphoml.core.errors import InputError
from lymphoml.data.training_range import fit_ranges, join_reasons, outside_ranges
from lymphoml.runs.cohort_shift import CohortShift

N = 60
RANDOM = np.random.default_rng(0)
TRAINED = pd.DataFrame({
    "age": RANDOM.uniform(40, 80, N), "count": np.exp(RANDOM.normal(2, 1, N)),
    "hb": 14.0, "sex": pd.Series(["M"] * (N - 1) + ["F"], dtype="str"),
    "site": pd.Series(["A"] * N, dtype="str"), "image focus": RANDOM.uniform(4, 8, N),
})  # fmt: skip


def findings(new, trained=TRAINED, predicts=1.0):
    """Return the lines of `strict` without the advice, and the reason for each patient."""
    shift = CohortShift()
    shift.add(0, new, fit_ranges(trained, ["age"]))
    probabilities = pd.DataFrame({0: predicts}, new.index)
    try:
        shift.report(probabilities, strict=True)
        lines = []
    except InputError as error:
        *lines, _ = error.problems
    return lines, shift.outside(probabilities)[0]


def test_the_training_patients_themselves_are_alike():
    lines, outside = findings(TRAINED)
    assert not lines
    assert not outside.any()


def test_what_is_kept_of_ages_is_in_whole_years():
    ages = pd.DataFrame({"age": [40.337, 55.21, 61.9]})
    kept = fit_ranges(ages, ["age"])["age"]
    numbers = [kept["low"], kept["high"], *kept["quantiles"]]
    assert numbers == [40, 62, 45, 55, 60]
    assert not join_reasons(outside_ranges(ages, {"age": kept})).any()


@pytest.mark.parametrize(("column", "change", "expected"), [
    ("count", lambda x: x * 1000, "divide by 1000"),
    ("count", lambda x: x / 1000, "multiply by 1000"),
    ("hb", lambda x: x * 10, "divide by 10"),
    ("age", lambda x: x / 100, "multiply by 100"),
    ("age", lambda x: x * 12, "months for years: divide by 12"),
    ("age", lambda x: x * 365.25, "days for years"),
    ("age", lambda x: x + 30, "age: median"),
    ("image focus", lambda x: x / 2, "image focus: median"),
])  # fmt: skip
def test_a_moved_median_is_found_from_ten_patients_on(column, change, expected):
    new = TRAINED.assign(**{column: change(TRAINED[column])})
    lines, _ = findings(new)
    assert any(expected in line for line in lines)
    few, _ = findings(new[:9])
    assert not any("median" in line for line in few)


def test_each_patient_outside_has_the_reason():
    new = TRAINED[:4].assign(
        age=[30.0, 50, 50, 50], hb=[14.0, np.nan, 14, 15], site=["A", "A", "B", "A"]
    )
    lines, outside = findings(new)
    assert outside.tolist() == [
        f"age below {np.floor(TRAINED['age'].min()):g}", "hb is missing",
        "site=B is not in training", "hb above 14",
    ]  # fmt: skip
    assert [line.partition(":")[0] for line in lines] == ["age", "hb", "hb", "site"]
    assert findings(new, predicts=np.nan)[1].eq("").all()  # by no model


def test_missing_values_are_held_against_their_share_in_training():
    trained = TRAINED.assign(count=TRAINED["count"].where(TRAINED.index > 5))
    new = TRAINED.assign(count=TRAINED["count"].where(TRAINED.index > 40))
    lines, outside = findings(new, trained)
    assert lines == ["count: missing in 68% of 60 patients, in training in 10%"]
    assert not outside.any()


def test_the_table_has_each_column_beside_the_training_patients():
    new = TRAINED[:20].assign(
        age=TRAINED["age"][:20] + 10,
        count=TRAINED["count"][:20].where(TRAINED.index[:20] > 4),
    )  # fmt: skip
    shift, parts = CohortShift(), (TRAINED[:40], TRAINED[20:])
    for fold, trained in enumerate(parts):
        shift.add(fold, new, fit_ranges(trained, ["age"]))
    rows = {row["column"]: row for row in shift.table(["age"])}
    assert set(rows) == {"age", "count", "hb", "image focus"}
    folds = [np.quantile(each["image focus"], (1 / 6, 1 / 2, 5 / 6)) for each in parts]
    low, middle, high = np.mean(folds, axis=0)
    moved = (new["image focus"].median() - middle) / ((high - low) / 2)
    assert rows["image focus"]["shift"] == pytest.approx(moved)
    assert rows["image focus"]["quantiles_training"] == pytest.approx([low, middle, high])
    assert all(float(each).is_integer() for each in rows["age"]["quantiles"])
    assert rows["age"]["shift"] > 0.5
    assert rows["count"]["missing"] == 0.25
    assert rows["hb"]["outside"] == 0
    assert (
        rows["age"]["outside"]
        == (new["age"] > np.ceil(min(each["age"].max() for each in parts))).sum()
    )
    assert rows["hb"]["shift"] is None  # of a constant
