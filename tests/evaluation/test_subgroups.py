import pandas as pd
import pytest

from lymphoml.evaluation.intervals import wilson
from lymphoml.evaluation.strata import subgroups


def predictions(right, label, prefix):
    """One patient for each entry of `right`."""
    return pd.DataFrame(
        {
            "patient": [f"{prefix}{i}" for i in range(len(right))],
            "label": label,
            "probability": [0.9 if good == bool(label) else 0.1 for good in right],
        }
    )


@pytest.fixture
def table():
    return pd.concat(
        [
            predictions([True] * 9 + [False] * 3, 1, "A"),
            predictions([True] * 4, 0, "B"),
            predictions([True] * 11, 0, "C"),
        ]
    )


def test_rates_of_each_group_with_wilsons_interval(table):
    groups = pd.DataFrame({"sex": table["patient"].str[0].map({"A": "F", "B": "F", "C": "M"})})
    female, male = subgroups(table, groups.set_index(table["patient"]))
    assert (female["by"], female["group"]) == ("sex", "F")
    assert (female["n_tumoral"], female["n_reactive"]) == (12, 4)
    low, high = wilson(9, 12)
    assert female["sensitivity"] == pytest.approx({"value": 0.75, "low": low, "high": high})
    assert (male["n_tumoral"], male["specificity"]["value"]) == (0, 1.0)


def test_fewer_than_ten_of_a_class_are_not_estimable(table):
    groups = pd.DataFrame({"sex": table["patient"].str[0]}).set_index(table["patient"])
    by_group = {row["group"]: row for row in subgroups(table, groups)}
    assert by_group["A"]["specificity"] is None
    assert by_group["B"]["specificity"] is None
    assert by_group["C"]["specificity"] is not None


def test_repeats_add_no_patient(table):
    groups = pd.DataFrame({"all": "all"}, index=table["patient"])
    wrong = table.assign(probability=1 - table["probability"])
    (twice,) = subgroups(pd.concat([table, wrong]), groups)
    assert twice["n_tumoral"] == 12
    assert twice["sensitivity"]["value"] == pytest.approx(0.5)
