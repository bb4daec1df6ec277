"""The command from end to end: exit codes, what is written, and what never is."""

import json
import re
import shutil
from dataclasses import astuple
from datetime import date
from pathlib import Path
from string import ascii_letters

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lymphoml.audit.clinical import _outliers
from lymphoml.audit.findings import problem_finding
from lymphoml.audit.run import audit
from lymphoml.cli.cohort_commands import Audit
from lymphoml.core.errors import InputError, quoted
from lymphoml.data.cohort import load_cohort
from lymphoml.data.problems import Place, Problem
from tests.audit.cohorts import TRAIN, write_cohort


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cohort"


@pytest.fixture
def data(root):
    return write_cohort(root)


def of(content, severity):
    return [each for each in content["findings"] if each["severity"] == severity]


def edit(path, *changes):
    """Replace patterns by texts."""
    text = path.read_text()
    for pattern, replacement in changes:
        text = re.sub(f"(?m){pattern}", replacement, text)
    path.write_text(text)


def test_a_clean_cohort_has_notes_only(data, root):
    for name in (TRAIN, "testset/testset_data.csv"):
        edit(root / name, (r"(\d+)/(\d+)/(\d{4})", r"\2-\1-\3"))  # one date format
    content = audit(data)
    assert (content["exit_code"], of(content, "error"), of(content, "warning")) == (0, [], [])
    assert content["images"] == {
        "files": 84, "usable": 84, "unused": {}, "modes": {"RGB": 84},
        "sizes": {"24 x 24": 84},
    }  # fmt: skip
    assert content["bag_size"] == {"min": 3, "median": 3.0, "max": 3}
    assert content["classes"] == {
        "records": 28, "tumoral": 16, "reactive": 8, "unlabelled": 4,
        "persons": {"tumoral": 16, "reactive": 8}, "max_folds": 8,
    }  # fmt: skip
    assert content["dates"]["age"]["-"] == {"dates": 28, "ambiguous": 11}
    assert content["fingerprint"] == load_cohort(data).labelled.fingerprint()[:16]
    json.dumps(content, allow_nan=False)
    assert {each["topic"] for each in of(audit(data.replace({"folds": 9})), "error")} == {"class"}


def test_everything_is_found_in_one_pass(data, root):
    """A wrong row, a folder without row, an image and a person: none hides another."""
    birth = re.search(r"(?m)^P14,\d,(\w,[^,]*)", (root / TRAIN).read_text())[1]
    edit(
        root / TRAIN,
        (r"^(P1,\d,\w),[^,]*", r"\1,31-2-1950"),  # no such day
        (r"^(P2,\d),\w", r"\1,X"),
        (r"^(P4,.*,)[^,]*$", r"\g<1>19-12-1940"),  # cells in the wrong column
        (r"^(P16,\d),\w,[^,]*", rf"\1,{birth}"),
    )
    (root / "trainset/P99").mkdir()
    (root / "trainset/P1/000001.jpg").write_text("no image")
    (root / "trainset/P3/000001.jpg").write_bytes((root / "testset/P25/000000.jpg").read_bytes())
    content = audit(data)
    assert content["exit_code"] == 2
    places = "\n".join(" ".join(each["where"]) for each in of(content, "error"))
    assert len(of(content, "error")) == 5
    for place in ("patient P1", "patient P2 'X'", "patient P4 '(a date)'", "P99",
                  "trainset/P1/000001.jpg"):  # fmt: skip
        assert place in places
    assert not re.search(r"P\d|'X'", "".join(each["what"] for each in of(content, "error")))
    assert content["classes"]["records"] == 25
    assert content["persons"]["pairs"][0]["patients"] == ["P14", "P16"]
    assert content["duplicates"]["exact"][0]["patients"] == ["P25", "P3"]
    assert content["shortcuts"]["fields"]
    written = json.dumps(content)
    assert str(root.parent) not in written
    assert not re.search(r"\d{1,2}[-/]\d{1,2}[-/]\d{4}|\d{4}-\d\d-\d\d", written)


def test_a_cohort_without_a_readable_table(data, root):
    (root / TRAIN).unlink()
    (root / "trainset/P1/000001.jpg").write_text("no image")
    content = audit(data)
    assert content["exit_code"] == 2
    assert {each["topic"] for each in of(content, "error")} == {"table", "image"}
    assert content["images"]["files"] == 84
    assert content["classes"]["unlabelled"] == 4
    shutil.rmtree(root)
    content = audit(data)
    assert (content["exit_code"], content["images"]["files"]) == (2, 0)
    assert "classes" not in content
    assert content["fingerprint"] is None


def test_a_shortcut_is_flagged_and_the_clean_are_not(data, root):
    """The tumoral patients' images, made darker."""
    for path in sorted(root.glob("trainset/P*/*.jpg")):
        if int(path.parent.name[1:]) % 3:
            Image.open(path).point(lambda value: value // 2).save(path, format="PNG")
    fields = {each["name"]: each for each in audit(data)["shortcuts"]["fields"]}
    assert fields["mean brightness"]["flagged"]
    assert fields["mean brightness"]["auroc"]["value"] == 0
    assert not fields["id number"]["flagged"]
    assert fields["table (train or test)"]["status"] == "constant"


def test_outliers_and_too_few_of_a_class(data, root):
    edit(root / TRAIN, (r"^(P1,.*,)[^,]*$", r"\g<1>900000"), (r"^(P\d+),0,", r"\1,1,"),
         ("^P3,1,", "P3,0,"))  # fmt: skip
    content = audit(data)
    assert content["ranges"]["lymphocyte_count"]["outliers"] == ["P1"]
    assert _outliers(pd.Series([0.0] * 8 + [1.0] * 2)) == []  # the quartiles are one value
    assert content["classes"]["max_folds"] == 0
    assert [each["topic"] for each in of(content, "error")] == ["class"]


def test_the_command_writes_a_private_file_and_exits_by_severity(data, root, tmp_path, capsys):
    out = tmp_path / "out" / "audit.json"
    with pytest.raises(SystemExit) as left:
        Audit(data={"root": str(root)}, out=str(out)).execute()
    assert left.value.code == json.loads(out.read_text())["exit_code"] == 1
    assert str(out) in capsys.readouterr().out.replace("\n", "")
    assert out.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("options", "key"), [
    ({"data": {"root": "."}, "out": "./audit.json"}, "data.root"),
    ({"data": {"root": "cohort"}, "out": "."}, "out"),
    ({"cohort": "else"}, "cohort"), ({"cohort": "table"}, "root"), ({"data": {"rot": "."}}, "rot"),
])  # fmt: skip
def test_refusals(tmp_path, monkeypatch, options, key):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=key):
        Audit(**options).execute()


# Birth dates and paths that must not appear

FORMATS = ["%d/%m/%Y", "%m-%d-%Y", "%Y-%m-%d", "%d.%m.%y", "%Y/%m/%d", "%d / %m / %Y", "%d %m %Y"]
AROUND = st.text(alphabet=ascii_letters + "'\"\\;:,() _é", max_size=70)


@given(
    st.dates(date(1900, 1, 1), date(2020, 12, 31)), st.sampled_from(FORMATS), AROUND, AROUND,
    st.sampled_from(["where", "what", "private"]), st.booleans(),
)  # fmt: skip
def test_no_birth_date_survives_in_any_field(born, form, before, after, field, quote):
    cell = before + born.strftime(form) + after
    parts = {"where": "row", "what": "GENDER is not F or M", "private": "'X'"}
    parts[field] = quoted(cell, 60) if quote else cell
    place = Place(Path("/c/t.csv"), parts.pop("where"))
    finding = problem_finding(Problem(place, action="fix", **parts), Path("/c"))
    assert not re.search(r"\d+ ?[-/. ] ?\d+", str(astuple(finding)))


def test_what_would_steer_a_terminal_is_written_out():
    problem = Problem(Place(Path("/c/t.csv"), "row 2"), "'\t' expected", "A", "\x1b[31m")
    finding = problem_finding(problem, Path("/c"))
    assert (finding.what, finding.where[1]) == (r"'\t' expected", r"\x1b[31m")


@pytest.mark.parametrize(("problem", "where"), [
    (Problem(Place(Path("/c/t.csv"), "row 2, patient P1"), "W", "A", "'X'"),
     ("t.csv, row 2, patient P1", "'X'")),
    (Problem(Place(Path("/c/train")), "W", "A", Path("/c/train/P1/a.jpg")),
     ("train", "train/P1/a.jpg")),
    (Problem(Place(Path("/home/x/t.csv")), "W", "A", Path("/home/x/y")), ("t.csv", "y")),
    (Problem(Place(Path("/c")), "W", "A"), ("data.root",)),
])  # fmt: skip
def test_places_are_below_the_root_and_ids_in_where_only(problem, where):
    finding = problem_finding(problem, Path("/c"))
    assert (finding.what, finding.where, finding.action) == ("W", where, "A")


def test_no_path_of_the_machine_is_reported(data, root, tmp_path):
    for name in ("P1", "P2/000000.jpg"):
        path = root / "trainset" / name
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    content = audit(data)
    assert content["severities"]["error"] == 2
    places = {each["where"][-1] for each in content["findings"][:2]}
    assert places == {"trainset/P1", "trainset/P2/000000.jpg"}
    assert str(tmp_path) not in str(content)
    (root / "trainset").rename(tmp_path / "moved")
    assert str(tmp_path) not in str(audit(data))
