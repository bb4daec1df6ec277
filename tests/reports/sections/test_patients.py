import pandas as pd
import pytest

from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.page import render
from lymphoml.reports.page.pseudonyms import pseudonyms, read_key
from lymphoml.reports.page.sections import patients
from lymphoml.reports.page.sections.patients import choose_cells, content, patient_table
from lymphoml.runs.finished_run import read_run
from tests.reports.enrich import make_run_of
from tests.reports.fabricate import config, make_run


def make(path):
    """Two repeats; C is called wrongly."""
    predictions = pd.DataFrame(
        {
            "patient": list("ABCD") * 2,
            "fold": [0, 0, 1, 1, 2, 3, 2, 3],
            "label": [1, 0, 1, 0] * 2,
            "probability": [0.9, 0.1, 0.5, 0.4, 0.7, 0.2, 0.3, 0.2],
        }
    )
    settings = config(**{"data.folds": 2, "data.repeats": 2})
    return make_run(path, settings, epochs=2, predictions=predictions)


def test_patients_stand_in_order_of_their_mean_probability_under_their_pseudonym(tmp_path):
    path = make(tmp_path / "run")
    (path / "strata.csv").write_text("patient,hard,sex\nA,0,F\nB,1,M\nC,1,F\nD,0,M\n")
    table = patient_table(read_run(path), ids=False)
    names = pseudonyms(list("ABCD"), read_key())
    assert list(table.index) == ["A", "C", "D", "B"]
    assert table["probability"].tolist() == pytest.approx([0.8, 0.4, 0.3, 0.15])
    assert table["name"].tolist() == [names[patient] for patient in "ACDB"]
    assert table["wrong"].tolist() == [False, True, False, False]
    assert table["hard"].tolist() == [False, True, False, True]
    assert patient_table(read_run(path), ids=True)["name"].tolist() == ["A", "C", "D", "B"]
    told = [word for series in content(read_run(path), Choices())["chart"].series
            for word in series.told]  # fmt: skip
    assert f"patient {names['C']}: 0.400, tumoral, hard stratum, fold 1" in told


def test_whose_stratum_is_unknown_is_not_said_to_be_in_it(tmp_path):
    run = read_run(make(tmp_path / "run"))
    (run.path / "strata.csv").write_text("patient,hard\nA,0\nB,1\nC,unknown\nD,1\n")
    assert patient_table(run, ids=False)["hard"].tolist() == [False, None, True, True]


def test_where_nothing_is_known_of_the_stratum_nobody_is_said_to_be_in_it(tmp_path):
    run = read_run(make(tmp_path / "run"))
    (run.path / "strata.csv").write_text("patient,sex\nA,F\n")
    assert patient_table(run, ids=False)["hard"].tolist() == [None] * 4
    assert not content(run, Choices())["hard_known"]


def test_the_cells_at_either_end_are_chosen_and_none_twice():
    instances = pd.DataFrame(
        {
            "patient": ["A"] * 8 + ["B"] * 4 + ["C"],
            "image": [f"{i}" for i in range(13)],
            "probability": [0.1, 0.8, 0.3, 0.9, 0.2, 0.7, 0.5, 0.4, 0.1, 0.9, 0.5, 0.6, 0.3],
        }
    )
    chosen = choose_cells(instances)
    assert [image for image, _ in chosen["A"]["most"]] == ["3", "1", "5"]
    assert [image for image, _ in chosen["A"]["least"]] == ["2", "4", "0"]
    assert [image for image, _ in chosen["B"]["most"]] == ["9", "11", "10"]
    assert chosen["B"]["least"] == [("8", 0.1)]
    assert chosen["C"] == {"most": [("12", 0.3)], "least": []}


def test_of_very_many_patients_both_ends_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(patients, "SHOWN", 2)
    told = content(read_run(make(tmp_path / "run")), Choices())
    assert [row["patient"] for row in told["rows"]] == ["A", "B"]
    assert told["n"] == 4
    assert sum(len(series.x) for series in told["chart"].series[1:]) == 4


CLINICAL = {"model.fusion": {"_target_": "lymphoml.models.fusion.ClinicalOnly"}}


@pytest.mark.parametrize(
    ("settings", "files", "said"),
    [
        ({"data.eval_bag_size": 3}, True, "models saw 3 images at most"),
        ({"data.eval_bag_size": 3}, False, "an earlier version"),
        (CLINICAL, True, "looks at no images"),
        (CLINICAL | {"data.eval_bag_size": 3}, False, "looks at no images"),
    ],
)
def test_why_no_cells_are_shown_is_what_the_configuration_tells(tmp_path, settings, files, said):
    settings = config(**{"data.folds": 2} | settings)
    run = make_run(tmp_path / "run", settings, n=30, epochs=2)
    for fold in range(2 * files):
        (run / f"fold-{fold}" / "instances.csv").write_text("patient,image,probability\n")
    told = content(read_run(run), Choices())
    assert said in told["missing"]
    assert "Beside" not in render("", "patients", told, [])


def test_patients_of_whom_not_all_images_were_seen_have_no_cells(cohort, tmp_path):
    path = make_run_of(cohort, tmp_path / "run", eval_bag_size=5)
    for fold in range(2):
        file = path / f"fold-{fold}" / "instances.csv"
        cells = pd.read_csv(file)
        cells[cells.groupby("patient")["image"].transform("size") <= 5].to_csv(file, index=False)
    told = content(read_run(path), Choices(), 1_000_000)
    assert 0 < len(told["cells"]) < len(told["rows"])
    page = " ".join(render("", "patients", told, []).split())
    assert "Beside a patient of at most 5 images (data.eval_bag_size) stand" in page
