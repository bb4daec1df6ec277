"""What a problem's line tells, and the birth dates that it must not."""

import re
from dataclasses import astuple
from datetime import date
from pathlib import Path
from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoml.audit.problems import table_finding
from lymphoml.audit.run import audit
from lymphoml.core.errors import quoted
from tests.audit.cohorts import write_cohort

TRAIN = "trainset/trainset_true.csv"
FORMATS = ["%d/%m/%Y", "%m-%d-%Y", "%Y-%m-%d", "%d.%m.%y", "%Y/%m/%d", "%d / %m / %Y", "%d %m %Y"]
AROUND = st.text(alphabet=ascii_letters + "'\"\\;:,() _é", max_size=70)


@given(
    st.dates(date(1900, 1, 1), date(2020, 12, 31)),
    st.sampled_from(FORMATS),
    AROUND,
    AROUND,
    st.sampled_from(["r.csv, row 2, patient P1: SEX {} is none of F, M; fix", "r.csv, row 2: {}"]),
    st.booleans(),
)
def test_no_birth_date_survives_wherever_it_stands(born, form, before, after, line, quote):
    cell = before + born.strftime(form) + after
    found = astuple(
        table_finding(line.format(quoted(cell, 60) if quote else cell), Path("/cohort"))
    )
    told = str(found).replace("row 2", "")
    assert not re.search(r"\d+ ?[-/. ] ?\d+", told)


def test_a_cut_never_leaves_half_a_date():
    for start in range(61):
        assert not re.search(r"\d", quoted("x" * start + "12/5/1948" + "x" * 60, 60)) or start < 52


@pytest.mark.parametrize("cell", ["O'Brien 12/5/1948", "12/5/1948", "x" * 53 + " 12/5/1948"])
def test_cells_that_have_slipped_keep_their_birth_date_for_themselves(tmp_path, cell):
    data = write_cohort(tmp_path / "cohort")
    path = tmp_path / "cohort" / TRAIN
    text = re.sub(r"(?m)^(P2,\d),\w", rf"\1,{cell}", path.read_text())
    path.write_text(re.sub(r"(?m)^P4,", f"{cell},", text))
    assert not re.search(r"12/|/5|1948", str(audit(data)))


def test_no_path_of_the_machine_is_told(tmp_path):
    data = write_cohort(tmp_path / "cohort")
    for name in ("P1", "P2/000000.jpg"):
        path = tmp_path / "cohort/trainset" / name
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    content = audit(data)
    assert content["severities"]["error"] == 2
    told = {(each["what"], *each["where"][1:]) for each in content["findings"][:2]}
    assert told == {
        ("it links to a place outside data.root", "trainset/P1"),
        ("it links to a place outside data.root", "trainset/P2/000000.jpg"),
    }
    assert str(tmp_path) not in str(content)
    (tmp_path / "cohort/trainset").rename(tmp_path / "elsewhere")
    assert str(tmp_path) not in str(audit(data))


@pytest.mark.parametrize(
    ("root", "line"),
    [
        (".", "t.csv, row 2, patient P.1: v.b links to a place outside .; put"),
        ("data", "data/t.csv, row 2, patient P.1: v.b lies in data; see data.root"),
        ("/a/b", "/a/b/t.csv, row 2, patient P.1: /a/bc of /a/b.d; /a/b"),
    ],
)
def test_only_the_root_itself_is_stripped(root, line):
    found = table_finding(line, Path(root))
    assert found.where[0] == "t.csv, row 2, patient P.1"
    told = {
        ".": "it links to a place outside .",
        "data": "v.b lies in data",
        "/a/b": "/a/bc of /a/b.d",
    }
    assert found.what == told[root]
    assert found.action == {".": "put", "data": "see data.root", "/a/b": "data.root"}[root]


def test_a_table_that_lies_elsewhere_is_not_read(tmp_path):
    data = write_cohort(tmp_path / "cohort")
    path = tmp_path / "else" / "mine.csv"
    path.parent.mkdir()
    text = (tmp_path / "cohort" / TRAIN).read_text()
    path.write_text(re.sub(r"(?m)^(P2,\d),\w", r"\1,X", text))
    content = audit(data | {"layout": "table", "table": str(path), "image_dir": "trainset"})
    assert content["findings"][0]["severity"] == "error"
    assert "classes" not in content
    assert str(tmp_path) not in str(content)


@pytest.mark.parametrize(
    ("line", "what", "where", "action"),
    [
        ("T, row 2, patient Z1: SEX 'Z: 2' is none of F, M; fix", "SEX is none of F, M",
         ["T, row 2, patient Z1", "'Z: 2'"], "fix"),
        ("""T, row 2, patient "O'Z: 1": ID "O'Z; 1" is not a safe id; use""", "ID is not a safe id",
         ["""T, row 2, patient "O'Z: 1\"""", """"O'Z; 1\""""], "use"),
        ("T, row 3, patient Z1: the id is taken by T, row 2, patient Z1; one row per patient",
         "the id is taken by another row", ["T, row 3, patient Z1", "T, row 2, patient Z1"],
         "one row per patient"),
        ("T, row 2, patient Z1: no image * in train/Z1; add", "no image *",
         ["T, row 2, patient Z1", "train/Z1"], "add"),
        ("train, folder 'Z: 1': no row in the table; add", "no row in the table",
         ["train, folder 'Z: 1'"], "add"),
        ("T, row 2, patient Z1: [Errno 13] Permission denied: '/c/train/Z1'",
         "[Errno 13] Permission denied", ["T, row 2, patient Z1", "'train/Z1'"], ""),
        ("train, folder Z1: train/Z1/sub.jpg is no file; put", "it is no file",
         ["train, folder Z1", "train/Z1/sub.jpg"], "put"),
        ("train, folder Z1: train/Z1 holds a file called '=Z1; a.jpg'; a name must not",
         "a folder holds a file of a refused name",
         ["train, folder Z1", "train/Z1 holds a file called '=Z1; a.jpg'"], "a name must not"),
        ("T, not a CSV file (odd end); save", "T, not a CSV file (odd end)", [], "save"),
    ],
)  # fmt: skip
def test_ids_stand_in_where_only(line, what, where, action):
    found = table_finding(line, Path("/c"))
    assert (found.what, list(found.where), found.action) == (what, where, action)
