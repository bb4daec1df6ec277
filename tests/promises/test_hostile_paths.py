"""Names and places made by an enemy."""

import os
import shutil
import socket
from pathlib import Path

import pytest

from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import read_bytes
from lymphoml.data.cohort import load_cohort
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.folds import read_folds
from lymphoml.data.image_store import read_images
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.finished_run import read_mapping
from lymphoml.runs.submission import check_submission
from lymphoml.runs.triage_rule import read_rule
from tests.promises.hostile import refused
from tests.promises.mutations import TABLE
from tests.reports.fabricate import make_run

SECRET = "ID,LABEL,GENDER,DOB,LYMPH_COUNT\nP1,secret,F,1-1-1950,3\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "cohort"
    synthesize(folder, patients=15, test_patients=1, images=(2, 2), size=16, seed=0)
    return folder


@pytest.fixture
def cohort(made, tmp_path):
    return shutil.copytree(made, tmp_path / "cohort")


def read(cohort, **changes):
    data = data_config("synthetic", {"root": str(cohort), "cache": f"{cohort}/../cache"} | changes)
    found = load_cohort(data)
    read_images(found.images, Preprocessing.of(data), data.cache)
    return found


def told(cohort, **changes):
    with pytest.raises(InputError) as caught:
        read(cohort, **changes)
    for problem in caught.value.problems:
        assert problem.isprintable()
        assert "secret" not in problem
    return "\n".join(caught.value.problems)


def rename(cohort, new, folder=True):
    """The first patient's id in the table and, where a folder can have the name, on disk."""
    text = (cohort / TABLE).read_text()
    first = text.splitlines()[1].split(",")[0]
    (cohort / TABLE).write_bytes(text.replace(f"\n{first},", f"\n{new},").encode())
    if folder:
        os.rename(cohort / "trainset" / first, cohort / "trainset" / new)
    return first


IDS = ["../x", "..", ".", "/etc", "~root", "C:\\x", "a/b", "a\\b", "x\x00y", '"x\ny"', "x\ty",
       "x" * 300, "-rf", "-1", "=1+1", "+1", "@x", "P\u0130", "Ｐ1", "é", "e\u0301", "P1\u200b",
       "P1\u202e", "\x1b[2Jx", "<b>x</b>", "x y", "${HOME}", "$(id)", "`id`", "'x'", "%s", "*", "?",
       "CON:", "", " ", "#x", "a;b", "|x"]  # fmt: skip


@pytest.mark.promise(
    "a patient's id that is a path, formula, option, escape sequence or look-alike",
    "a line that names the row; nothing is read or written",
)
@pytest.mark.parametrize("new", IDS, ids=repr)
def test_an_id_names_one_folder_and_nothing_else(new, cohort):
    outside = sorted(cohort.parent.rglob("*"))
    rename(cohort, new, folder=False)
    assert "row 2" in told(cohort) or "row 3" in told(cohort) or "NUL" in told(cohort)
    assert sorted(cohort.parent.rglob("*")) == outside


@pytest.mark.promise("an id that equals another but for case or space", "both rows are named")
@pytest.mark.parametrize("change", [str.lower, lambda name: f" {name} ", lambda name: name])
def test_ids_that_are_one_on_other_systems(change, cohort):
    lines = (cohort / TABLE).read_text().splitlines()
    patient, *rest = lines[1].split(",")
    new = change(patient)
    (cohort / TABLE).write_text("\n".join([*lines, ",".join([new, *rest])]) + "\n")
    (cohort / "trainset" / new).mkdir(exist_ok=True)
    shutil.copy(
        next((cohort / "trainset" / patient).iterdir()), cohort / "trainset" / new / "0.jpg"
    )
    assert "another row has this id" in told(cohort)


NAMES = ["=1+1.jpg", "+x.jpg", "-x.jpg", "@x.jpg", "a\nb.jpg", "\x1b[2J.jpg", "\u202egpj.jpg",
         b"\xff.jpg"]  # fmt: skip


@pytest.mark.promise(
    "an image called as a formula, an option, an escape sequence or no text",
    "a line; no csv has it",
)
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_image_names_can_stand_in_a_table(name, cohort):
    image = next((cohort / "trainset").rglob("*.jpg"))
    os.rename(os.fsencode(image), os.path.join(os.fsencode(image.parent), os.fsencode(name)))
    assert "a file has a refused name" in told(cohort)


def special(kind, path, outside):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path has 108 bytes at most
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
        os.chdir(here)
    elif kind == "folder":
        path.mkdir()
    else:
        targets = {
            "endless device": "/dev/zero",
            "terminal": "/dev/tty",
            "loop": path,
            "outside": outside,
            "broken": "/nowhere",
            "process": "/proc/self/environ",
        }
        path.symlink_to(targets[kind])  # fmt: skip


KINDS = ["pipe", "socket", "folder", "endless device", "terminal", "loop", "outside", "broken",
         "process"]  # fmt: skip


@pytest.mark.promise(
    "a pipe, socket, device, loop or link to elsewhere as image, patient's folder or table",
    "a line; it neither hangs nor reads what it leads to",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(60)
def test_only_files_are_read(kind, cohort, tmp_path, record_property):
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    image = next((cohort / "trainset").rglob("*.jpg"))
    for place in (image, image.parent, cohort / TABLE):
        kept = place.parent / f".{place.name}"
        place.rename(kept)
        special(kind, place, outside)
        assert told(cohort)
        (shutil.rmtree if place.is_dir() and not place.is_symlink() else os.unlink)(place)
        kept.rename(place)
    read(cohort)
    record_property("tried", 3)


@pytest.mark.promise(
    "a pipe, device, link, folder or 65 MB in the place of any file that a stranger may send",
    "a line; it neither hangs nor fills the memory",
)
@pytest.mark.parametrize("kind", ["pipe", "endless device", "folder", "large", "name"])
@pytest.mark.timeout(60)
def test_only_files_of_a_bounded_size_are_read(kind, tmp_path, patients, record_property):
    run = make_run(tmp_path / "run", n=20, epochs=1)
    path = tmp_path / ("triage.json" if kind != "name" else "x\x00y")
    if kind == "large":
        with path.open("wb") as file:
            file.truncate(65 << 20)  # takes no space
    elif kind != "name":
        special(kind, path, tmp_path)
    with pytest.raises(OSError, match=r"regular|larger|name"):
        read_bytes(path)
    reads = [lambda: read_folds(path, patients, 5, 1), lambda: read_mapping(path)]
    if kind in ("pipe", "endless device", "large"):
        shutil.copy(run / "predictions.csv", tmp_path / "predictions.csv")
        reads += [lambda: read_rule(tmp_path), lambda: check_submission(path, ["P1"])]
    for attempt in reads:
        with pytest.raises(InputError) as caught:
            attempt()
        assert len(caught.value.problems) == 1
    record_property("tried", 1 + len(reads))


@pytest.mark.promise(
    "a cohort's settings whose table or folder lies outside its root",
    "a line; nothing outside is read",
)
@pytest.mark.parametrize(("key", "value"), [
    ("table", "../outside.csv"), ("table", "/etc/passwd"), ("table", "images/../../outside.csv"),
    ("table", "x\x00"), ("image_dir", ".."), ("image_dir", "/etc"), ("image_dir", "x\x00"),
    ("image_pattern", "../*"), ("image_pattern", "*\x00"),
])  # fmt: skip
def test_a_cohort_stays_below_its_root(key, value, cohort):
    (cohort.parent / "outside.csv").write_text(SECRET)
    shutil.copy(cohort / TABLE, cohort / "clinical.csv")
    assert told(cohort, layout="table", **{"image_dir": "trainset", key: value})


def test_a_table_may_be_a_link_within_the_root(cohort):
    (cohort / TABLE).rename(cohort / "real.csv")
    (cohort / TABLE).symlink_to("../real.csv")
    assert len(read(cohort).table) == 16


@pytest.mark.promise("`audit=`, `run=` or `runs=` of what is none", "one line, exit code 2")
@pytest.mark.parametrize("words", [
    ["report", "run=/dev/zero"], ["report", "run=x\x00y"], ["report", "runs=/dev/null"],
    ["report", "run=RUN", "audit=/dev/zero"], ["report", "run=RUN", "audit=RUN"],
    ["report", "run=RUN", "audit=PIPE"], ["compare", "runs=[/dev/zero]"], ["compare", "runs=[&a]"],
    ["compare", "runs=[[RUN]]"], ["triage", "run=/dev/null"], ["predict", "run=/dev/null"],
    ["predict", "run=x\x00y"], ["compare", "runs=/dev/null"], ["submit", "run=RUN", "message=x"],
    ["audit", "cohort=../../x"], ["audit", "cohort=synthetic", "out=data/synthetic/x.json"],
])  # fmt: skip
@pytest.mark.timeout(60)
def test_what_a_command_is_pointed_at(words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "RUN", n=20, epochs=1)
    os.mkfifo("PIPE")
    refused(capsys, *words)


@pytest.mark.promise(
    "a run folder called as a formula, or with an escape sequence", "one line, exit code 2"
)
@pytest.mark.parametrize("name", ["=1+1", "@x", "-x", "x\x1b[2J", "a\nb"])
def test_a_runs_name_can_stand_in_a_table(name, tmp_path, capsys, monkeypatch, record_property):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "sweep" / name, n=20, epochs=1)
    make_run(tmp_path / "sweep" / "fair", n=20, epochs=1)
    for command in ("report", "compare"):
        refused(capsys, command, "runs=sweep")
    assert not list(Path("sweep").glob("*.csv"))
    record_property("tried", 2)
