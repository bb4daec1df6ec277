"""Clinical features against scikit-learn's, and from the training rows alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from lymphoml.core.errors import InputError
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.column_kinds import CategoricalColumn, DateOfBirthColumn, NumericColumn

COLUMNS = {
    "age": DateOfBirthColumn(kind="date_of_birth", column="DOB"),
    "count": NumericColumn(kind="numeric", column="LYMPH_COUNT", log=True, positive=True),
    "raw": NumericColumn(kind="numeric", column="LYMPH_COUNT"),
    "sex": CategoricalColumn(kind="categorical", column="SEX", values={"M": "M", "F": "F"}),
    "site": CategoricalColumn(kind="categorical", column="SITE", values={1: "C", 2: "A", 3: "B"}),
}
TABLE = pd.DataFrame({
    "label": [1, 0, 1, 0], "age": [70.5, 45.0, 62.25, 20.0], "count": [52.1, 4.8, 9.0, 2.28],
    "raw": [52.1, 4.8, 9.0, 2.28], "sex": ["F", "M", "M", "F"], "site": ["A", "B", "C", "A"],
}, ["P1", "P2", "P3", "P4"])  # fmt: skip


def fit(names, table=TABLE, standardize=True, missing="error"):
    return ClinicalEncoder.fit(table, COLUMNS, names, standardize, missing)


def test_raw_features():
    encoder = fit(["site", "raw", "sex", "count", "age"], standardize=False)
    assert encoder.names == ("site=B", "site=C", "raw", "sex=M", "count", "age")
    features = encoder.transform(TABLE)
    assert features.dtype == np.float32
    expected = [
        [0, 0, 52.1, 0, np.log(52.1), 70.5],
        [1, 0, 4.8, 1, np.log(4.8), 45],
        [0, 1, 9, 1, np.log(9), 62.25],
        [0, 0, 2.28, 0, np.log(2.28), 20],
    ]
    assert np.array_equal(features, np.array(expected, dtype=np.float32))
    assert fit([]).transform(TABLE).shape == (4, 0)
    assert fit(["age", "sex"]).transform(TABLE.iloc[:0]).shape == (0, 2)


def test_standardized_as_scikit_learn_does():
    names = ["age", "count", "sex"]
    raw = fit(names, standardize=False).transform(TABLE).astype(float)
    expected = StandardScaler().fit_transform(raw)
    np.testing.assert_allclose(fit(names).transform(TABLE), expected, atol=1e-6)


def test_is_fitted_to_the_rows_given_alone():
    names = ["age", "count", "sex"]
    poisoned = TABLE.copy()
    poisoned.loc["P4", ["age", "count", "sex"]] = [119.0, 9e9, "M"]
    train = ["P1", "P2", "P3"]
    encoder = fit(names, poisoned.loc[train], missing="impute")
    assert encoder == fit(names, TABLE.loc[train], missing="impute")
    assert encoder != fit(names, poisoned, missing="impute")
    np.testing.assert_allclose(encoder.transform(TABLE.loc[train]).mean(axis=0), 0, atol=1e-6)


def test_missing_values_become_the_typical_one():
    table = TABLE.copy()
    table.loc["P1", "age"] = table.loc["P4", "count"] = np.nan
    table.loc["P2", "sex"] = np.nan
    encoder = fit(["age", "count", "sex"], table, standardize=False, missing="impute")
    features = encoder.transform(table)
    assert features[0, 0] == 45.0  # the median of 20, 45, 62.25
    assert features[3, 1] == pytest.approx(np.log(9.0))  # of 4.8, 9, 52.1
    assert features[1, 2] == 0  # F twice, M once
    nothing = table.assign(sex=pd.Series(np.nan, index=table.index, dtype="str"))
    assert not encoder.transform(nothing)[:, 2].any()


def test_a_missing_value_is_refused_where_training_had_none():
    encoder = fit(["age", "count"])
    table = TABLE.copy()
    table.loc[["P2", "P3"], "count"] = np.nan
    with pytest.raises(InputError) as caught:
        encoder.transform(table)
    first, second = caught.value.problems
    assert first.startswith("patient P2: count is missing")
    assert second.startswith("patient P3: count is missing")
    with pytest.raises(InputError, match="age has no value among the training patients"):
        fit(["age"], TABLE.assign(age=np.nan), missing="impute")


@pytest.mark.parametrize("standardize", [True, False])
def test_what_never_varied_in_training_is_zero_for_everybody(standardize):
    men = TABLE.assign(sex="M", raw=14.0, site=["A", "B", "A", "B"])
    encoder = fit(["raw", "sex", "site", "age"], men, standardize)
    assert encoder.constant == ["raw", "sex=M", "site=C"]
    new = men.assign(sex=["M", "F", "M", "F"], raw=[14.0, 140.0, 1e9, -3.0], site="C")
    features = encoder.transform(pd.concat([men, new]))
    assert not features[:, [0, 1, 3]].any()
    usual = fit(["site", "age"], men, standardize).transform(men)
    assert np.array_equal(features[:4, [2, 4]], usual[:, [0, 2]])


@given(st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=20), st.booleans())
@example([0.001, 0.0010000000000000002], False)  # a constant, but for its last bit
def test_any_column_is_finite_and_centred(values: list[float], log: bool):
    name = "count" if log else "raw"
    table = pd.DataFrame({name: values})
    features = fit([name], table).transform(table)
    assert np.isfinite(features).all()
    assert abs(features.mean()) < 1e-3
    assert features.std() < 1 + 1e-3
