"""Privacy: personal data, pseudonyms, no network"""

import base64
import hmac
import os
import re

import pandas as pd
import pytest
import torch
import yaml

from lymphoml.audit.run import audit
from lymphoml.cli.config import data_config, run_config
from lymphoml.core.errors import InputError
from lymphoml.core.privacy import PRIVATE, hide_dates, is_private
from lymphoml.core.user_key import key_file, read_key
from lymphoml.core.wandb_client import client
from lymphoml.data.cohort import load_cohort
from lymphoml.reports.page.patients import pseudonyms
from tests.promises.jobs import ROOT, few, python
from tests.promises.journey import ARCHIVE, IMAGE, PATIENT, PATIENTS, Journey, canaries, make_cohort
from tests.promises.search import search, word_needles

pytestmark = pytest.mark.timeout(1200)  # the journey takes a minute where nothing else runs
slow = pytest.mark.slow
NAMES = {word: word_needles(word) for word in (PATIENT, IMAGE)}  # only in private files


def modes(*paths):
    return {path.stat().st_mode & 0o777 for path in paths}


@slow
def test_no_file_contains_personal_data(journey):
    """birth dates, a name, folders, user and host planted in table, images and machine, and
    patients' ids and names of image files; a run that raises, is killed, resumed, predicts, is
    explained, reported, compared and submitted → no byte of any file written anywhere contains one;
    the ids and names of images are in files of the one list of private files alone, and in a
    folder that only its owner may enter"""
    files, hits = search(journey.home, canaries() | NAMES, skip=[journey.home / ARCHIVE])
    assert [hit for hit in hits if hit[0] not in NAMES] == []
    paths = {journey.home / where for _, where in hits}
    (explained,) = journey.runs[0].glob("explanations")
    assert explained.stat().st_mode & 0o077 == 0
    others = {path for path in paths if explained not in path.parents and not is_private(path)}
    assert others <= {journey.work / "seen.json"}
    assert {"predictions.csv", "instances.csv", "pseudonyms.csv", "submission.csv"} <= {
        path.name for path in paths
    }
    assert files > 100
    written = {path.suffix for path in journey.home.rglob("*")}
    assert {".ckpt", ".wandb", ".html", ".npy", ".json", ".csv", ".yaml", ".jsonl"} <= written
    assert list(journey.work.rglob("events.out.tfevents.*"))
    assert len(list(journey.work.glob("runs/cv/*/wandb/offline-run-*"))) > len(journey.runs) * 3
    # The input does contain them; one birth date was left empty.
    planted = {canary for canary, _ in search(journey.cohort, canaries() | NAMES)[1]}
    assert len([each for each in canaries().keys() - planted if each.startswith("birth")]) <= 1
    assert {PATIENT, IMAGE, "Quastenflosser"} <= planted


@slow
def test_private_files_have_mode_0600(journey):
    """a umask that lets every user read and write → private files have mode 0600, the key as
    well"""
    written = [path for path in journey.home.rglob("*") if path.is_file()]
    private = [path for path in written if is_private(path) and ARCHIVE not in path.parts]
    private += [journey.home / ".config/lymphoml/pseudonyms.key", journey.work / "seen.json"]
    assert modes(*private) == {0o600}
    assert modes(journey.home / ".config" / "lymphoml") == {0o700}
    public = [path for path in written if path.name in ("config.yaml", "report.html")]
    assert modes(*public) == {0o666}


@slow
def test_no_folder_of_the_user_is_recorded(journey):
    assert not list(journey.work.rglob("multirun.yaml"))
    for run in journey.runs:
        stored = yaml.safe_load((run / "config.yaml").read_text())
        assert not {"root", "cache"} & stored["data"].keys()
        assert stored["model"]["encoder"]["weights"] == ".../weights.pt"
    printed = [step.stdout + step.stderr for step in journey.steps if step.returncode == 0]
    assert any("runs/cv/" in each for each in printed)
    assert not [each for each in printed if str(journey.work / "runs") in each]
    with pytest.raises(InputError, match=r"data\.root: is missing"):
        run_config(journey.runs[0], {}, {})
    config = run_config(journey.runs[0], {"root": "elsewhere"}, {})
    assert (config.data.root, config.data.cache) == ("elsewhere", ".cache")


@slow
def test_a_report_shows_pseudonyms_and_a_checkpoint_whole_years(journey):
    for run in journey.runs:
        page = (run / "report.html").read_text()
        known = pd.read_csv(run / "pseudonyms.csv")
        explained = run == journey.runs[0]
        assert (page.count("data:image/webp") > 10) == explained
        assert len(known) == known["patient"].str.startswith(PATIENT).sum() == PATIENTS * 4 // 5
        assert all(f'name">{each}<' in page for each in known["pseudonym"])
        for path in run.glob("fold-*/last.ckpt"):
            state = torch.load(path, weights_only=True)["BagDataModule"]["clinical"]
            assert state["fill"]["age"] == int(state["fill"]["age"])
            assert state["mean"][0] != int(state["mean"][0])


@slow
def test_everything_passes_without_a_network(journey):
    """sockets blocked in every Python process, and all processes, W&B's service included, in a
    network of their own where the system allows it → audit, training with loader workers, W&B and
    TensorBoard, triage, prediction, comparison and report pass, and request no address"""
    assert journey.network_attempts == []
    assert [step for step in journey.steps if step.returncode == 0]
    assert list(journey.work.glob("runs/cv/*/wandb/offline-run-*/*.wandb"))


SLIPPED = ["17.03.1931", "1931 03 17", "17 March 1931", "17. März 1931", "March 17th, 1931",
           "17-mars-1931", "17MAR1931", "19310317", "17031931", "03171931", "17/03/31",
           "07031931", "03071931", "07031931.0"]  # fmt: skip
COLUMNS = ["ID", "DOB", "LABEL", "GENDER", "LYMPH_COUNT"]


@pytest.mark.parametrize("column", few(COLUMNS, *COLUMNS[:2]))
def test_a_cell_that_may_be_a_birth_date_is_never_quoted(tmp_path, column):
    """a birth date in the column of dates, ids, numbers or categories, where it is invalid → row
    and patient are shown, the date is not, on the terminal and in audit.json"""
    make_cohort(tmp_path / "cohort", 12)
    path = tmp_path / "cohort" / "clinical.csv"
    table = pd.read_csv(path, dtype=str)
    for row, written in enumerate(SLIPPED):
        table.loc[row, column] = f"{written}x" if column == "DOB" else written
    table.to_csv(path, index=False)
    data = data_config("table", {"root": str(tmp_path / "cohort")})
    with pytest.raises(InputError) as refused:
        load_cohort(data)
    assert len(refused.value.problems) >= len(SLIPPED)
    for text in [*refused.value.problems, str(audit(data))]:
        assert not [each for each in SLIPPED if each in text]
        assert "31-03" not in text.replace(".", "-").replace("/", "-")


@pytest.mark.parametrize("text", ["row 5, patient P7", "2.28 to 295", "40 of 163", "163 patients",
                                  "image 000017.jpg", "12345678 is not a number"])  # fmt: skip
def test_numbers_that_are_not_dates_stay(text):
    assert hide_dates(text) == text


def test_security_md_lists_every_private_file():
    page = (ROOT / "SECURITY.md").read_text()
    listed = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, re.MULTILINE)
    assert dict(listed) == PRIVATE


def test_pseudonyms_are_keyed_and_all_different():
    """pseudonyms under two keys, of 100,000 patients → each is the HMAC-SHA256 of its id, all
    differ, and another key gives others"""
    patients = [f"P{number}" for number in range(100_000)]
    named = pseudonyms(patients, b"k" * 32)
    for patient in patients[:100]:
        digest = hmac.new(b"k" * 32, patient.encode(), "sha256").digest()
        code = named[patient].removeprefix("P-")
        assert base64.b32encode(digest).decode().startswith(code)
        assert re.fullmatch("[A-Z2-7]{6,9}", code)
    assert len(set(named.values())) == len(patients)
    assert not set(named.values()) & set(pseudonyms(patients, b"l" * 32).values())
    nine = pseudonyms(patients[:9], b"k" * 32)
    assert pseudonyms(patients[8::-1], b"k" * 32) == nine
    assert len(named["P0"]) > len(nine["P0"])  # they are longer until all differ


@slow
def test_the_key_is_created_once(tmp_path, monkeypatch, started):
    """six processes that create the key at once → one key, mode 0600"""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    code = "import os; os.umask(0); from lymphoml.core.user_key import read_key as f; "
    processes = [started("-c", code + "print(f().hex())", cwd=tmp_path) for _ in range(6)]
    keys = {process.communicate()[0].strip() for process in processes}
    assert keys == {read_key().hex()}
    assert modes(key_file()) == {0o600}
    assert modes(key_file().parent) == {0o700}
    assert len(read_key()) == 32


def test_a_wrong_key_and_one_that_cannot_be_created_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key_file().parent.mkdir()
    key_file().write_bytes(b"short")
    with pytest.raises(InputError, match="32 bytes"):
        read_key()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="XDG_CONFIG_HOME"):
        read_key()


CHILD = """
import contextlib, multiprocessing, socket

def reach():
    for attempt in (
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
    ):
        with contextlib.suppress(OSError):
            attempt()

if __name__ == "__main__":
    for kind in ("fork", "spawn"):
        process = multiprocessing.get_context(kind).Process(target=reach)
        process.start()
        process.join()
"""


def test_the_guard_catches_a_child(tmp_path, started):
    """a child of a child that opens a socket → the block of sockets records it"""
    (tmp_path / "child.py").write_text(CHILD)
    it = Journey(tmp_path / "home")
    it.home.mkdir()
    process = started("child.py", cwd=tmp_path, env=it.environment())
    assert process.communicate()[1] == ""
    assert process.returncode == 0
    assert len(it.network_attempts) == 6


@slow
def test_timms_hub_gets_no_telemetry(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    code = "from lymphoml.models.encoders import timm_encoder\ntimm_encoder('test_resnet')\n"
    code += "import huggingface_hub.constants as hub\nprint(hub.HF_HUB_DISABLE_TELEMETRY)"
    assert python("-c", code, cwd=tmp_path).stdout.strip() == "True"


def test_wandb_reports_no_errors_to_its_makers():
    client()
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
