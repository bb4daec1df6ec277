"""What becomes of a problem, and the birth dates and paths that must not appear."""

import re
from dataclasses import astuple
from datetime import date
from pathlib import Path
from string import ascii_letters

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoml.audit.findings import problem_finding
from lymphoml.audit.run import audit
from lymphoml.core.errors import quoted
from lymphoml.data.problems import Place, Problem
from tests.audit.cohorts import write_cohort

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


def test_no_path_of_the_machine_is_reported(tmp_path):
    data = write_cohort(tmp_path / "cohort")
    for name in ("P1", "P2/000000.jpg"):
        path = tmp_path / "cohort/trainset" / name
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    content = audit(data)
    assert content["severities"]["error"] == 2
    places = {each["where"][-1] for each in content["findings"][:2]}
    assert places == {"trainset/P1", "trainset/P2/000000.jpg"}
    assert str(tmp_path) not in str(content)
    (tmp_path / "cohort/trainset").rename(tmp_path / "moved")
    assert str(tmp_path) not in str(audit(data))
