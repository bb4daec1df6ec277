"""Six patients on the page, their cells and what is known of the explanations."""

import json
import re

import pandas as pd
import pytest

from lymphoml.core.errors import InputError
from lymphoml.reports.page import Choices
from lymphoml.reports.page.evidence import choose_patients, evidence, faithfulness_tables
from lymphoml.reports.page.page import render
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import make_run_of, make_small_run

ROOM = 1_000_000


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory):
    return read_run(make_run_of(cohort, tmp_path_factory.mktemp("evidence") / "run"))


def test_six_patients_are_chosen_by_rule():
    probability = [0.99, 0.9, 0.8, 0.54, 0.52, 0.45, 0.4, 0.2, 0.1]
    label = [1, 0, 1, 1, 0, 0, 1, 1, 0]
    table = pd.DataFrame({"probability": probability, "label": label}, list("abcdefghi"))
    table["wrong"] = (table["probability"] > 0.5) != (table["label"] == 1)
    assert choose_patients(table) == [
        ("tumoral, the surest right", "a"), ("reactive, the surest right", "i"),
        ("tumoral, the worst wrong", "h"), ("reactive, the worst wrong", "b"),
        ("nearest to the threshold", "e"), ("nearest to the threshold", "d"),
    ]  # fmt: skip
    right = table[~table["wrong"]]
    assert [why for why, _ in choose_patients(right)][2:] == ["nearest to the threshold"] * 2
    assert choose_patients(table.iloc[:0]) == []


def test_cells_have_their_maps_and_the_logit_is_given_without_them(run):
    shown = evidence(run, Choices(), room=ROOM)
    assert 4 <= len(shown["patients"]) == len(shown["cells"]) <= 6
    page = render("", "evidence", shown)
    ends = [cells for each in shown["cells"].values() for cells in each.values()]
    assert all(set(maps) == {"grad_cam"} for cells in ends for _, _, maps in cells)
    assert "Next to a cell: Grad-CAM; red for tumoral" in page
    pictures = sum(2 * len(cells) for cells in ends)
    assert page.count("<img") == page.count('alt="') == pictures > 16
    assert "logit +0.600; they carry +0.400, 40 % of it" in page
    assert "logit +1.250; they carry −0.250." in page
    assert re.findall(r"<li><b>(.*?)</b> (.*?)</li>", page)[:2] == [
        ("+1.100", "mean area"), ("−0.400", "age")]  # fmt: skip
    assert "<strong>Grad-CAM:</strong> It shows no more than a map of the middle." in page


def test_each_check_stands_beside_its_controls_and_other_models(run):
    checks, models, regions, randomised = evidence(run, Choices(), room=ROOM)["tables"]
    assert checks.columns == ["Area less that of", "random order"]
    assert models.columns == ["Area", "this run", "untrained"]
    assert [table.rows[0][0] for table in (checks, models, regions, randomised)] == [
        "Grad-CAM, places blurred", "Grad-CAM, places blurred", "Grad-CAM, in the cell", "Grad-CAM"
    ]  # fmt: skip
    assert [bool(each) for each in regions.rows[0][1:]] == [True, True, False, True, False]
    assert faithfulness_tables({}) == []
    page = render("", "evidence", evidence(run, Choices()))
    assert page.count("[0.400, 0.600]") == 8
    with pytest.raises(InputError, match="has another form"):
        faithfulness_tables({"checks": [{"check": "cells_deletion"}]})


def test_without_explanations_the_command_is_given(tmp_path):
    shown = evidence(read_run(make_small_run(tmp_path / "run")), Choices())
    assert "python -m lymphoml explain run=RUN" in render("", "evidence", shown)


def test_no_pictures_where_they_are_not_wanted_or_do_not_fit(run):
    shown = evidence(run, Choices(thumbnails=False))
    assert "<img" not in render("", "evidence", shown)
    assert "do not fit" in evidence(run, Choices(), room=100)["missing"]


def test_a_damaged_map_is_said_without_naming_the_patient(cohort, tmp_path):
    path = make_run_of(cohort, tmp_path / "run")
    for picture in (path / "explanations" / "pictures").rglob("*.png"):
        picture.write_bytes(b"x")
    shown = evidence(read_run(path), Choices(), room=ROOM)
    assert shown["missing"] == (
        "No cells are shown: a map of explanations cannot be read; give explain again"
    )
    (path / "explanations" / "settings.json").write_text(json.dumps({"run": "x"}))
    with pytest.raises(InputError, match="as it was before"):
        evidence(read_run(path), Choices())
