import math

import pytest

from lymphoml.reports.format import (
    format_estimate,
    format_p,
    format_score,
    format_setting,
)


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [(0.8124, False, "0.812"), (-0.1, False, "−0.100"), (0.04, True, "+0.040"),
     (-0.0001, True, "0.000"), (None, True, "n/a"), (math.nan, False, "n/a")],
)  # fmt: skip
def test_scores(value, signed, text):
    assert format_score(value, signed) == text


def test_estimates():
    score = {"value": 0.5, "low": -0.25, "high": 0.75}
    assert format_estimate(score) == "0.500 [−0.250, 0.750]"
    assert format_estimate(score, signed=True) == "+0.500 [−0.250, +0.750]"
    assert format_estimate(score | {"low": None}) == "0.500 (no interval)"
    assert format_estimate(None) == "n/a"
    assert [format_p(p) for p in (0.0004, 0.0317, math.nan)] == ["< 0.001", "0.032", ""]


def test_settings_show_no_path_of_the_machine():
    assert format_setting("/home/someone/mine.csv") == ".../mine.csv"
    assert [format_setting(value) for value in (True, None, [1, 2], [])] == [
        "yes", "none", "1, 2", "none",
    ]  # fmt: skip
