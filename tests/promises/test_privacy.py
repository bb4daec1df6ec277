"""Privacy: what never leaves, and what stays with its owner"""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from lymphoml.audit.run import audit
from lymphoml.cli.config import data_config, run_config
from lymphoml.core.errors import InputError
from lymphoml.core.privacy import PRIVATE, hide_dates, is_private
from lymphoml.data.cohort import load_cohort
from tests.promises.conftest import PATIENTS
from tests.promises.journey import (
    ARCHIVE,
    IMAGE,
    PATIENT,
    ROOT,
    birth_dates,
    canaries,
    make_cohort,
    names,
)
from tests.promises.search import search

pytestmark = pytest.mark.timeout(1200)  # the journey takes a minute where nothing else runs


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.promise(
    "birth dates, a name, folders, user and host planted in table, images and machine; a run that "
    "raises, is killed, goes on, predicts, is reported, compared and sent",
    "no byte of any file written anywhere tells one: each file counted",
)
def test_a_whole_run_tells_no_birth_date_person_path_user_or_host(journey, record_property):
    found = search(journey.home, canaries(PATIENTS), skip=[journey.home / ARCHIVE])
    assert found.hits == []
    assert found.files > 100
    record_property("tried", found.files)
    record_property("bytes", found.unpacked)
    written = {path.suffix for path in journey.home.rglob("*")}
    assert {".ckpt", ".wandb", ".html", ".npy", ".json", ".csv", ".yaml", ".jsonl"} <= written
    assert list(journey.work.rglob("events.out.tfevents.*"))
    assert len(list(journey.work.glob("runs/cv/*/wandb/offline-run-*"))) > len(journey.runs) * 3


@pytest.mark.promise(
    "patients' ids and the names of their image files, in the same run",
    "only in files of the one list of private files",
)
def test_patients_are_named_in_private_files_alone(journey, record_property):
    found = search(journey.home, names(), skip=[journey.home / ARCHIVE])
    told = {journey.home / where for _, where in found.hits}
    assert {path for path in told if not is_private(path)} <= {journey.work / "seen.json"}
    assert {"predictions.csv", "instances.csv", "pseudonyms.csv", "submission.csv"} <= {
        path.name for path in told
    }
    record_property("tried", found.files)


@pytest.mark.promise(
    "a umask that lets everybody read and write", "private files have mode 0600, the key as well"
)
def test_private_files_are_their_owners_alone(journey, record_property):
    written = [path for path in journey.home.rglob("*") if path.is_file()]
    private = [path for path in written if is_private(path) and ARCHIVE not in path.parts]
    private += [journey.home / ".config/lymphoml/pseudonyms.key", journey.work / "seen.json"]
    assert {mode(path) for path in private} == {0o600}
    assert mode(journey.home / ".config" / "lymphoml") == 0o700
    open_to_all = [path for path in written if path.name in ("config.yaml", "report.html")]
    assert {mode(path) for path in open_to_all} == {0o666}
    record_property("tried", len(private))


def test_a_sweep_keeps_no_record_of_hydras_with_folders(journey):
    assert not list(journey.work.rglob("multirun.yaml"))
    for run in journey.runs:
        told = yaml.safe_load((run / "config.yaml").read_text())
        assert not {"root", "cache"} & told["data"].keys()
        assert told["model"]["encoder"]["weights"] == ".../weights.pt"


def test_the_terminal_names_runs_from_the_working_directory_on(journey):
    said = [step.stdout + step.stderr for step in journey.steps if step.returncode == 0]
    assert any("runs/cv/" in each for each in said)
    assert not [each for each in said if str(journey.work / "runs") in each]


def test_prediction_asks_where_the_cohort_lies(journey):
    with pytest.raises(InputError, match=r"data\.root is not told by a run.*give data\.root"):
        run_config(journey.runs[0], {}, {})
    config = run_config(journey.runs[0], {"root": "elsewhere"}, {})
    assert (config["data"]["root"], config["data"]["cache"]) == ("elsewhere", ".cache")


def test_a_page_shows_cells_and_pseudonyms_and_the_private_file_says_whose(journey):
    for run in journey.runs:
        page = (run / "report.html").read_text()
        known = pd.read_csv(run / "pseudonyms.csv")
        assert page.count("data:image/webp") > 10
        assert len(known) == known["patient"].str.startswith(PATIENT).sum() == PATIENTS * 4 // 5
        assert all(f'name">{each}<' in page for each in known["pseudonym"])


SLIPPED = ["17.03.1931", "1931 03 17", "17 March 1931", "17. März 1931", "March 17th, 1931",
           "17-mars-1931", "17MAR1931", "19310317", "17031931", "03171931", "17/03/31"]  # fmt: skip


@pytest.mark.promise(
    "a birth date in the column of dates, ids, numbers or categories, where it cannot be read",
    "row and patient are told, the date is not, on the terminal and in audit.json",
)
@pytest.mark.parametrize("column", ["ID", "LABEL", "DOB", "GENDER", "LYMPH_COUNT"])
def test_a_cell_that_may_be_a_birth_date_is_never_quoted(tmp_path, column, record_property):
    make_cohort(tmp_path / "cohort", 12)
    path = tmp_path / "cohort" / "clinical.csv"
    table = pd.read_csv(path, dtype=str)
    for row, written in enumerate(SLIPPED):
        table.loc[row, column] = f"{written}x" if column == "DOB" else written
    table.to_csv(path, index=False)
    data = data_config("table", {"root": str(tmp_path / "cohort")})
    with pytest.raises(InputError) as refused:
        load_cohort(data)
    told = [*refused.value.problems, str(audit(data))]
    assert len(refused.value.problems) >= len(SLIPPED)
    for text in told:
        assert not [each for each in SLIPPED if each in text]
        assert "31-03" not in text.replace(".", "-").replace("/", "-")
    record_property("tried", len(SLIPPED))


@pytest.mark.parametrize("said", ["row 5, patient P7", "2.28 to 295", "40 of 163", "163 patients",
                                  "image 000017.jpg", "12345678 is not a number"])  # fmt: skip
def test_numbers_that_are_no_dates_stay(said):
    assert hide_dates(said) == said


def test_imputed_ages_are_whole_years_in_a_checkpoint(journey):
    for run in journey.runs:
        for path in run.glob("fold-*/last.ckpt"):
            state = torch.load(path, weights_only=True)["BagDataModule"]["clinical"]
            assert state["fill"]["age"] == int(state["fill"]["age"])
            assert state["mean"][0] != int(state["mean"][0])


def test_security_md_lists_every_private_file():
    page = (ROOT / "SECURITY.md").read_text()
    listed = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, re.MULTILINE)
    assert dict(listed) == PRIVATE


def test_canaries_stand_in_what_goes_in(journey):
    """Else their absence would prove nothing."""
    found = search(journey.cohort, canaries(PATIENTS) | names())
    told = {canary for canary, _ in found.hits}
    missed = {f"birth date {birth_dates(PATIENTS)[7]}"}  # its cell was left empty
    assert {each for each in canaries(PATIENTS) if each.startswith("birth")} - told <= missed
    assert {PATIENT, IMAGE, "Quastenflosser"} <= told
    assert Path(journey.home).name in str(journey.cohort)
