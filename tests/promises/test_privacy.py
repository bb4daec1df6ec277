"""Privacy: what never leaves, and what stays with its owner"""

import base64
import gzip
import hmac
import io
import re
import struct
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image, PngImagePlugin

from lymphoml import pseudonyms as module
from lymphoml.audit.run import audit
from lymphoml.config import data_config
from lymphoml.data.cohort import read_cohort
from lymphoml.errors import InputError
from lymphoml.privacy import PRIVATE, hide_dates, is_private
from lymphoml.pseudonyms import key_file, pseudonyms, read_key
from tests.promises.conftest import PATIENTS
from tests.promises.journey import (
    ARCHIVE,
    IMAGE,
    PATIENT,
    REFERENCE,
    ROOT,
    birth_dates,
    canaries,
    make_cohort,
    names,
)
from tests.promises.search import BLOCK, date_needles, search, word_needles

BORN = date(1931, 3, 17)
WORD = "Quastenflosser, 17.03.1931"


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
    name = f"run={journey.runs[0].relative_to(journey.work)}"
    journey.do(str(ROOT / "predict.py"), name, ends=(2,))
    (line,) = journey.steps.pop().stderr.splitlines()
    assert "data.root is not told by a run folder" in line
    assert line.endswith("give data.root=...")


def test_a_page_shows_cells_and_pseudonyms_and_the_private_file_says_whose(journey):
    for run in journey.runs:
        page = (run / "report.html").read_text()
        known = pd.read_csv(run / "pseudonyms.csv")
        assert page.count("data:image/webp") > 10
        assert len(known) == known["patient"].str.startswith(PATIENT).sum() == PATIENTS * 4 // 5
        assert all(f'name">{each}<' in page for each in known["pseudonym"])


# The searcher itself.


def zipped(content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", content)
    return packed.getvalue()


def checkpoint(content):
    packed = io.BytesIO()
    torch.save({"hyper_parameters": {"root": content.decode()}}, packed)
    return packed.getvalue()


def wandb_record(content):
    """A record that a block's border cuts in two."""
    filler = bytes(BLOCK - 7 - 7 - 7 - 10)
    pieces = [struct.pack("<IHB", 0, len(filler), 1) + filler]
    pieces += [struct.pack("<IHB", 0, 3, 2) + content[:3], struct.pack("<IHB", 0, 0, 3)]
    pieces = [b":W&B" + bytes(3), *pieces]
    begun = b"".join(pieces)
    begun += bytes(BLOCK - len(begun)) if BLOCK - len(begun) < 7 else b""
    return begun + struct.pack("<IHB", 0, len(content) - 3, 4) + content[3:]


def event(content):
    return struct.pack("<QI", len(content), 0) + content + bytes(4)


def image(kind):
    def packed(content):
        file, text = io.BytesIO(), PngImagePlugin.PngInfo()
        text.add_text("Comment", content.decode(), zip=True)
        exif = Image.Exif()
        exif[270] = content.decode()
        more = {"PNG": {"pnginfo": text}, "JPEG": {"comment": content}, "WEBP": {"exif": exif}}
        Image.new("RGB", (9, 9)).save(file, kind, **more[kind])
        return file.getvalue()

    return packed


CONTAINERS = {
    "plain": bytes,
    "upper case": bytes.upper,
    "utf-16": lambda content: content.decode().encode("utf-16"),
    "hexadecimal": lambda content: content.hex().encode(),
    "base64 at 1": lambda content: base64.b64encode(b"x" + content),
    "base64 at 2": lambda content: base64.b64encode(b"xy" + content),
    "gzip": gzip.compress,
    "half a gzip": lambda content: gzip.compress(content + np.random.bytes(9999))[:-99],
    "zip": zipped,
    "gzip in base64 in html": lambda c: b"<script>" + base64.b64encode(gzip.compress(c)) + b"<",
    "a zip in a zip": lambda content: zipped(zipped(content)),
    "checkpoint": checkpoint,
    "wandb": wandb_record,
    "tfevents": event,
    "png": image("PNG"),
    "jpeg": image("JPEG"),
    "webp in a page": lambda c: b"data:image/webp;base64," + base64.b64encode(image("WEBP")(c)),
}


@pytest.mark.promise(
    "the search itself: words in archives, checkpoints, W&B's and TensorBoard's records, pictures",
    "finds each",
)
@pytest.mark.parametrize("container", CONTAINERS)
def test_the_search_finds_what_is_packed(tmp_path, container):
    (tmp_path / "file").write_bytes(CONTAINERS[container](WORD.encode()))
    needles = {"name": word_needles("Quastenflosser"), "none": word_needles("Zitteraal")}
    assert search(tmp_path, needles).hits == [("name", "file")]


def test_the_search_finds_names_of_files_and_links(tmp_path):
    (tmp_path / "Quastenflosser").mkdir()
    (tmp_path / "link").symlink_to("/home/quastenflosser")
    found = search(tmp_path, {"name": word_needles("Quastenflosser")}).hits
    assert found == [("name", "Quastenflosser"), ("name", "link")]
    assert search(tmp_path, {"name": word_needles("home")}, skip=[tmp_path / "link"]).hits == []


DAYS = (BORN - date(1970, 1, 1)).days
AGE = (REFERENCE - BORN).days / 365.25
WRITTEN = ["1931-03-17", "17.03.1931", "17/3/1931", "3/17/1931", "19310317", "17031931",
           "17 March 1931", "March 17, 1931", "17-Mar-31", "1931-03-17 00:00:00", "31/03/1931",
           str(pd.Timestamp(BORN)), str(DAYS * 86400), repr(AGE)]  # fmt: skip


@pytest.mark.promise(
    "the search itself: a birth date in each way of writing, as seconds, and as an exact age",
    "finds each",
)
@pytest.mark.parametrize(
    "content",
    [*(each.encode() for each in WRITTEN if each != "31/03/1931"), struct.pack("<d", AGE),
     np.array([BORN], "datetime64[ns]").tobytes(), str(DAYS * 86400).encode("utf-16")],
)  # fmt: skip
def test_the_search_finds_a_date_however_written(tmp_path, content):
    (tmp_path / "file").write_bytes(b"before " + content + b" after")
    told = {"born": date_needles(BORN, REFERENCE), "other": date_needles(date(1940, 8, 23), BORN)}
    assert search(tmp_path, told).hits == [("born", "file")]


# Tables.

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
        read_cohort(data)
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


# Pseudonyms.


@pytest.mark.promise(
    "pseudonyms under two keys, and of thousands of patients",
    "each is the HMAC-SHA256 of its id, all differ, and another key gives others",
)
@pytest.mark.parametrize("count", [163, 20_000])
def test_pseudonyms_are_keyed_and_all_different(count, record_property):
    patients = [f"P{number}" for number in range(count)]
    named = pseudonyms(patients, b"k" * 32)
    for patient in patients[:100]:
        digest = hmac.new(b"k" * 32, patient.encode(), "sha256").digest()
        code = named[patient].removeprefix("P-")
        assert base64.b32encode(digest).decode().startswith(code)
        assert re.fullmatch("[A-Z2-7]{6,9}", code)
    assert len(set(named.values())) == count
    assert not set(named.values()) & set(pseudonyms(patients, b"l" * 32).values())
    assert pseudonyms(patients[::-1], b"k" * 32) == named
    record_property("tried", count)


def test_pseudonyms_grow_until_they_differ(monkeypatch):
    monkeypatch.setattr(module, "SHORTEST", 1)
    named = pseudonyms([f"P{number}" for number in range(100)], b"k" * 32)
    (length,) = {len(name) for name in named.values()}
    assert len(set(named.values())) == 100
    assert length > len("P-") + 1


MAKE = "import os; os.umask(0); from lymphoml.pseudonyms import read_key; print(read_key().hex())"


@pytest.mark.promise("six processes that need the key before there is one", "one key, mode 0600")
def test_the_key_is_made_once_and_is_its_owners(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    words = [sys.executable, "-c", MAKE]
    started = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(6)]
    keys = {process.communicate()[0].decode().strip() for process in started}
    assert keys == {read_key().hex()}
    assert mode(key_file()) == 0o600
    assert mode(key_file().parent) == 0o700
    assert len(read_key()) == 32


def test_a_damaged_key_and_one_that_cannot_be_made_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key_file().parent.mkdir()
    key_file().write_bytes(b"short")
    with pytest.raises(InputError, match="is no key of 32 bytes"):
        read_key()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CONFIG_HOME"):
        read_key()


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
