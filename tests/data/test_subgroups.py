import pandas as pd

from lymphoml.cli.config import data_config
from lymphoml.data.cohort import Cohort, subgroups

DATA = data_config("lymphocytosis", {})


def test_every_grouping():
    ids = ["A", "B", "C", "D"]
    table = pd.DataFrame(
        {
            "label": [0, 1, 1, 0],
            "lymphocyte_count": [8.0, 8.01, 7.9, float("nan")],
            "age": [64.9, 65.0, 80.0, float("nan")],
            "sex": pd.Series(["F", "M", None, "M"], index=ids, dtype="str"),
        },
        ids,
    )
    origin = pd.DataFrame(
        {"table": 0, "row": [5, 2, 4, 3], "age format": ["/", "-", "/", None]}, ids
    )
    cohort = Cohort("tiny", table, dict.fromkeys(ids, ()), origin)
    found = subgroups(cohort, DATA)
    assert found.to_dict("list") == {
        "hard": ["1", "0", "1", "unknown"],
        "age": ["below 65", "65 and above", "65 and above", "unknown"],
        "age format": ["/", "-", "/", "unknown"],
        "sex": ["F", "M", "unknown", "M"],
        "acquisition_half": ["later half", "earlier half", "later half", "earlier half"],
    }
    assert list(found.index) == list(cohort.table.index)
    assert "hard" not in subgroups(cohort, DATA.replace({"hard_stratum": None}))
