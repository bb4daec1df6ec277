import pandas as pd
import pytest

from lymphoml.core.errors import InputError
from lymphoml.core.user_key import read_key
from lymphoml.reports.page import Choices
from lymphoml.reports.page import patients as module
from lymphoml.reports.page.page import render
from lymphoml.reports.page.patients import patient_table, pseudonyms
from lymphoml.reports.page.patients import patients as content
from lymphoml.runs.finished_run import read_run
from tests.reports.fabricate import config, make_run, make_run_of


@pytest.fixture
def run(tmp_path):
    """Two repeats; C is called wrongly."""
    predictions = pd.DataFrame(
        {"patient": list("ABCD") * 2, "fold": [0, 0, 1, 1, 2, 3, 2, 3], "label": [1, 0, 1, 0] * 2,
         "probability": [0.9, 0.1, 0.5, 0.4, 0.7, 0.2, 0.3, 0.2]}
    )  # fmt: skip
    settings = config(**{"data.folds": 2, "data.repeats": 2})
    return read_run(make_run(tmp_path / "run", settings, epochs=2, predictions=predictions))


def write_strata(run, text):
    (run.path / "strata.csv").write_text(text)


def test_patients_are_ordered_by_mean_probability_under_their_pseudonyms(run):
    write_strata(run, "patient,hard,sex\nA,0,F\nB,1,M\nC,1,F\nD,0,M\n")
    table = patient_table(run, ids=False)
    names = pseudonyms(list("ABCD"), read_key())
    assert list(table.index) == ["A", "C", "D", "B"]
    assert table["probability"].tolist() == pytest.approx([0.8, 0.4, 0.3, 0.15])
    assert table["name"].tolist() == [names[patient] for patient in "ACDB"]
    assert table["wrong"].tolist() == [False, True, False, False]
    assert table["hard"].tolist() == [False, True, False, True]
    tooltips = [text for each in content(run, Choices())["chart"].series for text in each.tooltips]
    assert f"{names['C']}: 0.400, tumoral, hard stratum, fold 1" in tooltips


def test_an_unknown_stratum_stays_unknown(run):
    write_strata(run, "patient,hard\nA,0\nB,1\nC,unknown\nD,1\n")
    assert patient_table(run, ids=False)["hard"].tolist() == [False, None, True, True]
    write_strata(run, "patient,sex\nA,F\n")
    assert not content(run, Choices())["has_hard_stratum"]


def test_of_very_many_patients_both_ends_are_listed(run, monkeypatch):
    monkeypatch.setattr(module, "MAX_LISTED", 2)
    shown = content(run, Choices())
    assert [row["patient"] for row in shown["rows"]] == ["A", "B"]
    assert shown["n"] == 4
    assert sum(len(series.x) for series in shown["chart"].series[1:]) == 4


def test_cells_are_shown_with_their_effects_or_why_not(cohort, tmp_path):
    path = make_run_of(cohort, tmp_path / "run")
    shown = content(read_run(path), Choices(), room=1_000_000)
    assert len(shown["cells"]) == len(shown["rows"])
    page = render("", "patients", shown)
    assert 'alt="cell, effect +0.400"' in page
    assert 'alt="cell, effect −0.300"' in page
    cells = path / "explanations" / "cells.csv"
    cells.write_text("patient,image\n")
    with pytest.raises(InputError, match="cannot be read"):  # not in a page to share
        content(read_run(path), Choices())
    cells.unlink()
    shown = content(read_run(path), Choices(), room=1_000_000)
    assert "python -m lymphoml explain run=RUN" in shown["missing"]
