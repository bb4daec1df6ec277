from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from lymphoml.cli.config import validate
from lymphoml.data.cohort import Cohort
from lymphoml.data.subgroups import subgroups

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def data():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return validate(compose("train")).data


@pytest.fixture
def cohort():
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
    return Cohort("tiny", table, dict.fromkeys(ids, ()), origin)


def test_every_grouping(cohort, data):
    found = subgroups(cohort, data)
    assert found.to_dict("list") == {
        "hard": ["1", "0", "1", "unknown"],
        "age": ["below 65", "65 and above", "65 and above", "unknown"],
        "age format": ["/", "-", "/", "unknown"],
        "sex": ["F", "M", "unknown", "M"],
        "acquisition_half": ["later half", "earlier half", "later half", "earlier half"],
    }
    assert list(found.index) == list(cohort.table.index)


def test_no_stratum_declared_means_none(cohort, data):
    assert "hard" not in subgroups(cohort, data.replace({"hard_stratum": None}))
