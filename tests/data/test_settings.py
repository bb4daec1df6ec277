"""What each key of the section `data` refuses."""

import pytest

from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.data.settings import RESERVED

DATA = data_config("lymphocytosis", {})


def problem_of(changes: dict) -> str:
    with pytest.raises(InputError) as caught:
        DATA.replace(changes)
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"image_pattern": "*/*.jpg"}, "data.image_pattern=*/*.jpg"),
        ({"label_values": {"1": 2}}, "data.label_values.1=2: must be <= 1"),
        ({"clinical": ["age", "count"]}, "data.clinical: data.columns has no count"),
        ({"reference_date": "2020-13-01"}, "data.reference_date=2020-13-01: must be a date"),
        ({"date_formats": {"-": "%d-%m-%y"}}, "a year of four digits"),
        ({"date_formats": {"-": "%d/%m/%Y"}}, "must contain the separator"),
        ({"date_formats": {"": "%d-%m-%Y"}}, "must contain the separator"),
        ({"date_formats": {}}, "data.columns.age: needs data.date_formats"),
        ({"hard_stratum": {"column": "lymphocyte_count"}}, "hard_stratum.max: is missing"),
        ({"hard_stratum": {"column": "sex", "max": 8}}, "must be a numeric column of data.columns"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, told):
    assert told in problem_of(changes)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("numeric", "must be a mapping"),
        ({"column": "X"}, ": has no 'kind'"),
        ({"kind": "numric", "column": "X"}, ".kind=numric: must be one of numeric, "),
        ({"kind": "numeric", "column": "LABEL"}, ".column=LABEL: the patient's id and label"),
        ({"kind": "categorical", "column": "X", "values": {True: "y"}}, "quote what YAML"),
        ({"kind": "categorical", "column": "X", "values": {"y": None}}, "quote what YAML"),
    ],
)
def test_columns_that_mean_nothing_are_refused(spec, told):
    line = problem_of({"columns.extra": spec})
    assert line.startswith("data.columns.extra")
    assert told in line


def test_names_of_the_tables_own_columns_are_reserved():
    for name in RESERVED:
        changes = {f"columns.{name}": {"kind": "numeric", "column": "X"}}
        assert "name is reserved" in problem_of(changes)
