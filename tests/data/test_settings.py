"""What each key of the section `data` refuses."""

import pytest

from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.data.settings import RESERVED

DATA = data_config("lymphocytosis", {})
COLUMN = {"kind": "numeric", "column": "X"}
TEXTS = {"kind": "categorical", "column": "X"}
SEX = TEXTS | {"values": {"F": "F"}, "role": "sex"}
OF_BAGS = {"layout": "mil_table", "columns": {}, "clinical": [], "hard_stratum": None,
           "label_values": {"1": 1, "0": 0}, "image_pattern": "*"}  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), [
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
    ({"columns.extra": "numeric"}, "data.columns.extra=numeric: must be a mapping"),
    ({"columns.extra": {"column": "X"}}, "data.columns.extra: has no 'kind'"),
    ({"columns.extra": COLUMN | {"column": "LABEL"}}, "the patient's id and label"),
    ({"columns.extra": TEXTS | {"values": {True: "y"}}}, "quote what YAML"),
    ({"columns.extra": TEXTS | {"values": {"y": None}}}, "quote what YAML"),
    ({"site_column": "LYMPH_COUNT"}, "data.clinical: lymphocyte_count is data.site_column"),
    ({"person_column": "LABEL"}, "data.person_column=LABEL: is the column of ids or labels"),
    ({"site_column": "S"} | OF_BAGS, "data.site_column=S: a file of bags has none"),
    (OF_BAGS | {"label_values": {"1": 0, "0": 1}}, "data.label_values: does not go with"),
    ({"table": "patients.csv"}, "data.table: does not go with data.layout=kaggle"),
    ({"columns": DATA.to_dict()["columns"] | dict.fromkeys(("sex", "gender"), SEX)},
     "is sex or gender the person's sex"),
    *(({f"columns.{name}": COLUMN}, "name is reserved") for name in RESERVED),
])  # fmt: skip
def test_settings_that_mean_nothing_are_refused(changes, told):
    with pytest.raises(InputError) as caught:
        DATA.replace(changes)
    (line,) = caught.value.problems
    assert told in line
    assert next(iter(changes)) in line
