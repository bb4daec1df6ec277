"""Hostile names and paths"""

import json
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
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.finished_run import read_mapping
from lymphoml.runs.submission import check_submission
from lymphoml.runs.triage_rule import read_rule
from tests.promises.jobs import TABLE, configuration, few, predict, problem, refused
from tests.reports.fabricate import make_run

SECRET = "ID,LABEL,GENDER,DOB,LYMPH_COUNT\nP1,secret,F,1-1-1950,3\n"


@pytest.fixture
def copied(cohort, tmp_path):
    return shutil.copytree(cohort, tmp_path / "cohort")


def read(cohort, **changes):
    data = data_config("synthetic", {"root": str(cohort), "cache": f"{cohort}/../cache"} | changes)
    found = load_cohort(data)
    read_images(found.images, Preprocessing.of(data), data.cache)
    return found


def problems(cohort, **changes):
    with pytest.raises(InputError) as caught:
        read(cohort, **changes)
    found = "\n".join(caught.value.problems)
    assert "secret" not in found
    return found


IDS = [
    "../x", "=1+1", "x\x00y", "Ｐ1",
    "..", ".", "/etc", "~root", "C:\\x", "a/b", "a\\b", '"x\ny"', "x\ty", "x" * 300, "-rf", "-1",
    "+1", "@x", "P\u0130", "é", "e\u0301", "P1\u200b", "P1\u202e", "\x1b[2Jx", "<b>x</b>", "x y",
    "${HOME}", "$(id)", "`id`", "'x'", "%s", "*", "?", "CON:", "", " ", "#x", "a;b", "|x",
]  # fmt: skip


@pytest.mark.parametrize("ids", [IDS[:4], pytest.param(IDS, marks=pytest.mark.slow)])
def test_an_id_names_one_folder_and_nothing_else(ids, copied):
    """a patient's id that is a path, formula, option, escape sequence or look-alike → a line that
    names the row; nothing is read or written"""
    outside = sorted(copied.parent.rglob("*"))
    text = (copied / TABLE).read_text()
    first = text.splitlines()[1].split(",")[0]
    for name in ids:
        (copied / TABLE).write_bytes(text.replace(f"\n{first},", f"\n{name},").encode())
        found = problems(copied)
        assert "row 2" in found or "row 3" in found or "NUL" in found, name
    assert sorted(copied.parent.rglob("*")) == outside


def test_ids_that_are_one_on_other_systems(copied):
    """an id that equals another but for case or space → a line names both rows"""
    lines = (copied / TABLE).read_text().splitlines()
    patient, *rest = lines[1].split(",")
    image = next((copied / "trainset" / patient).iterdir())
    for new in (patient.lower(), f" {patient} "):
        (copied / TABLE).write_text("\n".join([*lines, ",".join([new, *rest])]) + "\n")
        (copied / "trainset" / new).mkdir(exist_ok=True)
        shutil.copy(image, copied / "trainset" / new / "0.jpg")
        found = problems(copied)
        assert f"row {len(lines) + 1}" in found
        assert "row 2" in found
        shutil.rmtree(copied / "trainset" / new)


def test_image_names_can_be_written_into_a_table(copied):
    """an image file named as a formula, an option, an escape sequence or no text → a line; no csv
    has it"""
    image = os.fsencode(next((copied / "trainset").rglob("*.jpg")))
    for name in ("=1+1.jpg", "-x.jpg", "\x1b[2J.jpg", b"\xff.jpg"):
        renamed = os.path.join(os.path.dirname(image), os.fsencode(name))
        os.rename(image, renamed)
        assert "refused name" in problems(copied), name
        image = renamed


KINDS = ["pipe", "socket", "folder", "endless device", "broken", "loop", "outside"]


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
        targets = {"endless device": "/dev/zero", "broken": "/nowhere", "loop": path}
        path.symlink_to(targets.get(kind, outside))


@pytest.mark.parametrize("kind", few(KINDS, "pipe", "outside"))
@pytest.mark.timeout(60)
def test_only_files_are_read(kind, copied, tmp_path):
    """a pipe, socket, device, loop or link to elsewhere as image, patient's folder or table → a
    line; it neither hangs nor reads the target"""
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    image = next((copied / "trainset").rglob("*.jpg"))
    for place in (image, image.parent, copied / TABLE):
        kept = place.parent / f".{place.name}"
        place.rename(kept)
        special(kind, place, outside)
        assert problems(copied)
        (shutil.rmtree if place.is_dir() and not place.is_symlink() else os.unlink)(place)
        kept.rename(place)
    read(copied)


@pytest.mark.parametrize("kind", ["pipe", "endless device", "folder", "large", "name"])
@pytest.mark.timeout(60)
def test_only_files_of_a_bounded_size_are_read(kind, tmp_path, patients):
    """a pipe, device, link, folder or 65 MB instead of a file that may come from elsewhere → a
    line; it neither hangs nor fills the memory"""
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
        (tmp_path / "predictions.csv").write_text("patient,fold,label,probability\nP1,0,1,0.5\n")
        reads.append(lambda: read_rule(tmp_path))
        reads.append(lambda: check_submission(path, ["P1"], ("ID", "LABEL")))
    assert all(problem(attempt) for attempt in reads)


def test_a_cohort_stays_below_its_root(copied, tmp_path):
    """a cohort's settings whose table or folder is outside its root → a line; nothing outside is
    read"""
    (tmp_path / "outside.csv").write_text(SECRET)
    shutil.copy(copied / TABLE, copied / "clinical.csv")
    for key, value in (
        ("table", "../outside.csv"), ("table", "/etc/passwd"), ("table", "x\x00"),
        ("image_dir", ".."), ("image_dir", "/etc"), ("image_pattern", "../*"),
    ):  # fmt: skip
        assert problems(copied, **{"layout": "table", "image_dir": "trainset"} | {key: value})
    (copied / TABLE).rename(copied / "real.csv")
    (copied / TABLE).symlink_to("../real.csv")
    read(copied)  # a link within the root is none to the outside


def test_no_file_vanishes_silently(copied, tmp_path, capsys):
    """images of another suffix, in deeper folders, hidden, or what a file system makes, in a
    patient's folder → counted by the audit, training's first lines, metrics.json and predict.py"""
    for bag in (folder for part in copied.glob("t*set") for folder in part.glob("P*")):
        (bag / "@eaDir").mkdir()
        (bag / "cell.png").touch()
    config, run = (
        configuration(copied, tmp_path / "cache", "trainer.max_epochs=1"),
        tmp_path / "run",
    )
    cross_validate(config, run)
    counts = "16 *.png, 16 made by a file system"
    assert f" images are used; not used: {counts}\n" in capsys.readouterr().out
    unused = json.loads((run / "metrics.json").read_text())["unused_files"]
    assert unused == {"*.png": 16, "made by a file system": 16}
    predict(config, run)
    assert "not used: 3 *.png, 3 made by a file system\n" in capsys.readouterr().out


WORDS = [
    "predict run=x\x00y", "report run=RUN audit=PIPE", "report run=/dev/zero",
    "report runs=/dev/null", "report run=RUN audit=RUN", "compare runs=[/dev/zero]",
    "compare runs=[[RUN]]", "triage run=/dev/null", "predict run=/dev/null",
    "submit run=RUN message=x", "audit cohort=../../x",
    "audit cohort=synthetic out=data/synthetic/x.json",
]  # fmt: skip


@pytest.mark.parametrize("commands", [WORDS[:2], pytest.param(WORDS, marks=pytest.mark.slow)])
@pytest.mark.timeout(60)
def test_paths_given_to_commands(commands, tmp_path, capsys, monkeypatch):
    """`audit=`, `run=` or `runs=` with the path of something else; a run folder named as a formula,
    or with an escape sequence → one line, exit code 2"""
    monkeypatch.chdir(tmp_path)
    named = make_run(tmp_path / "RUN", n=20, epochs=1)
    os.mkfifo("PIPE")
    for words in commands:
        refused(capsys, *words.split(" "))
    make_run(tmp_path / "sweep" / "plain", n=20, epochs=1)
    named = named.rename(tmp_path / "sweep" / "other")
    for name in ("=1+1", "x\x1b[2J"):
        named = named.rename(named.with_name(name))
        for command in ("report", "compare"):
            refused(capsys, command, "runs=sweep")
    assert not list(Path("sweep").glob("*.csv"))
