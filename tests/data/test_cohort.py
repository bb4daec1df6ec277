"""Every layout ends in one validated cohort, and every mistake in one clear line."""

from contextlib import suppress
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.core.privacy import hide_dates
from lymphoml.data.cohort import Cohort, load_cohort, load_cohort_lenient, subgroups
from lymphoml.data.columns import CellError, read_cell
from lymphoml.data.settings import DataConfig

HEADER = "ID,LABEL,GENDER,DOB,LYMPH_COUNT"
TRAIN = ["P10,1,F,1/7/1948,52.1", "P1,0,M,19-12-1940,4.8", "P2,1,f,12/31/1950,9"]
TEST = ["P3,-1,M,7-1-1948,6.25"]
KAGGLE = data_config("lymphocytosis", {})
KEYS = ("columns", "date_formats", "label_values", "reference_date", "clinical")
OWN = data_config("table", {"root": "."}).replace({key: getattr(KAGGLE, key) for key in KEYS})


def write_kaggle(root: Path, train: list[str] = TRAIN, test: list[str] = TEST) -> DataConfig:
    """A cohort in the layout of the download, two (empty) images a patient; its configuration."""
    for name, rows in (("trainset/trainset_true", train), ("testset/testset_data", test)):
        path = root / f"{name}.csv"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join([HEADER, *rows]) + "\n")
        write_bags(path.parent, [row.split(",")[0] for row in rows])
    return KAGGLE.replace({"root": str(root)})


def write_table(root: Path, text: str | bytes, ids: list[str]) -> DataConfig:
    """The same clinical columns in a table of one's own."""
    write_bags(root / "images", ids)
    (root / "clinical.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return OWN.replace({"root": str(root)})


def write_bags(folder: Path, ids: list[str]):
    folder.mkdir(exist_ok=True)
    for patient in ids:
        if patient and "/" not in patient:
            (folder / patient).mkdir(exist_ok=True)
            for image in ("000001.jpg", "000000.jpg", ".DS_Store", "._000000.jpg"):
                (folder / patient / image).touch()


def problems_of(data: DataConfig) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        load_cohort(data)
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def same(a: Cohort, b: Cohort) -> bool:
    return a.table.equals(b.table) and a.images == b.images


# What is read


def test_kaggle_layout(tmp_path):
    cohort = load_cohort(write_kaggle(tmp_path))
    table = cohort.table
    assert list(table.index) == list(cohort.images) == ["P1", "P10", "P2", "P3"]
    assert list(table.columns) == ["label", "group", "age", "lymphocyte_count", "sex"]
    assert table["label"].tolist() == [0, 1, 1, -1]
    assert table["sex"].tolist() == ["M", "F", "F", "M"]
    assert table["lymphocyte_count"].tolist() == [4.8, 52.1, 9, 6.25]
    births = [date(1940, 12, 19), date(1948, 1, 7), date(1950, 12, 31), date(1948, 1, 7)]
    assert table["age"].tolist() == [(date(2020, 1, 1) - day).days / 365.25 for day in births]
    # P1 is no prefix of P10 here; hidden files are no images.
    assert cohort.images["P1"] == tuple(tmp_path / "trainset/P1" / f"00000{i}.jpg" for i in (0, 1))
    assert cohort.schema == {
        "age": {"kind": "numeric", "log": False},
        "lymphocyte_count": {"kind": "numeric", "log": True},
    }
    assert cohort.origin.to_dict("list") == {
        "table": [0, 0, 0, 1], "row": [3, 2, 4, 2], "age format": ["-", "/", "/", "-"],
        "age ambiguous": [False, True, False, True],
        "person": [f"{sex} {day}" for day, sex in zip(births, "MFFM", strict=True)],
    }  # fmt: skip
    assert list(cohort.labelled.table.index) == list(cohort.labelled.images) == ["P1", "P10", "P2"]
    assert list(cohort.unlabelled.table.index) == list(cohort.unlabelled.images) == ["P3"]
    assert same(cohort.subset(["P3", "P2", "P1", "P10"]), cohort)
    with pytest.raises(KeyError):
        cohort.subset(["P4"])


def test_an_age_in_calendar_years_is_the_difference_of_the_years(tmp_path):
    data = write_kaggle(tmp_path, ["P2,1,F,12/31/1948,5", "P10,0,M,1-1-1949,5"])
    columns = {"age": {"kind": "date_of_birth", "column": "DOB", "calendar_years": True}}
    own = data.replace({"columns": data.to_dict()["columns"] | columns})
    for reference, expected in (("2020-01-01", [72, 71]), ("2019-12-31", [71, 70])):
        cohort = load_cohort(own.replace({"reference_date": reference}))
        assert cohort.table["age"][["P2", "P10"]].tolist() == expected
    assert cohort.labelled.in_table_order == ["P2", "P10"]


def test_layouts_and_the_order_of_rows_give_the_same_cohort(tmp_path):
    data = write_kaggle(tmp_path)
    cohort = load_cohort(data)
    assert same(load_cohort(data_config("synthetic", {"root": str(tmp_path)})), cohort)
    table = tmp_path / "trainset/trainset_true.csv"
    table.write_text("\n".join([HEADER, *reversed(TRAIN)]))
    (tmp_path / "link").symlink_to(".")
    (tmp_path / "trainset/P1").rename(tmp_path / "stored")
    (tmp_path / "trainset/P1").symlink_to("../stored")
    assert load_cohort(data.replace({"root": str(tmp_path / "link")})).table.equals(cohort.table)
    (tmp_path / "testset/testset_data.csv").write_text(HEADER)
    (tmp_path / "testset/P3").rename(tmp_path / "P3")
    assert len(load_cohort(data).unlabelled.table) == 0
    text = "ID,GENDER,DOB,LYMPH_COUNT\nP1,F,1/7/1948,5\n"  # patients to predict
    assert load_cohort(write_table(tmp_path, text, ["P1"])).table["label"].tolist() == [-1]


def test_fingerprint_depends_on_these_patients_alone(tmp_path):
    one = load_cohort(write_kaggle(tmp_path / "one"))
    more = load_cohort(write_kaggle(tmp_path / "more", test=["A1,-1,F,1/1/1950,3", *TEST]))
    other = load_cohort(write_kaggle(tmp_path / "other", [TRAIN[0] + "1", *TRAIN[1:]]))
    assert one.labelled.fingerprint() == more.labelled.fingerprint()
    assert one.labelled.fingerprint() != other.labelled.fingerprint()


def test_one_birth_date_and_sex_is_one_person(tmp_path):
    train = [
        "P1,1,F,1/7/1948,50",
        "P2,0,f,7-1-1948,5",  # the same day in the other format, the same sex in the other case
        "P3,0,M,7-1-1948,5",
        "P4,0,F,1-7-1948,5",  # 1 July
    ]
    data = write_kaggle(tmp_path, train, ["A1,-1,F,1/07/1948,5"])
    table = load_cohort(data).table
    assert table["group"].to_dict() == {"A1": 0, "P1": 0, "P2": 0, "P3": 1, "P4": 2}
    sexless = {name: column for name, column in data.columns.items() if name != "sex"}
    table = load_cohort(data.replace({"columns": sexless})).table
    assert table["group"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("name", "column"), [
    ("gender", {"column": "GENDER", "values": {"F": "0", "f": "0", "M": "1"}}),
    ("x", {"column": "Sex", "values": {"F": "0", "f": "0", "M": "1"}}),
    ("x", {"column": "X", "values": {"F": "female", "f": "female", "M": "Male"}}),
    ("x", {"column": "X", "values": {"F": "0", "f": "0", "M": "1"}, "role": "sex"}),
])  # fmt: skip
def test_the_sex_of_a_person_is_recognised_under_any_name(tmp_path, name, column):
    text = HEADER.replace("GENDER", column["column"])
    text += "\nP1,1,F,1/7/1948,5\nP2,1,f,1/7/1948,5\nP3,1,M,1/7/1948,5\n"
    data = write_table(tmp_path, text, ["P1", "P2", "P3"])
    columns = {key: each for key, each in data.to_dict()["columns"].items() if key != "sex"}
    data = data.replace({"columns": columns | {name: {"kind": "categorical"} | column}})
    assert load_cohort(data).table["group"].tolist() == [0, 0, 1]
    other = {"kind": "categorical", "column": "X", "values": {"B": "B"}}
    data = data.replace({"columns": columns | {"x": other}})  # a category that is none
    assert (data.sexes, data.person_rule) == ([], None)


def test_persons_of_a_column_are_those_of_one_text(tmp_path):
    """Neither a number nor a birth date makes one of two, nor an empty cell; a birth date, two."""
    text = (
        HEADER
        + ",PERSON,SITE\n"
        + "".join(
            f"P{number},1,F,1/7/19{48 + number // 6},5,{person},A\n"
            for number, person in enumerate(["007", "7", "", "n/a", "a", "7.0", "7", "A"])
        )
    )
    data = write_table(tmp_path, text, [f"P{number}" for number in range(8)])
    data = data.replace({"person_column": "PERSON", "site_column": "SITE"})
    cohort = load_cohort(data)
    assert cohort.table["group"].tolist() == [0, 1, 2, 3, 4, 5, 1, 6]
    assert cohort.origin["person"].isna().sum() == 2
    assert cohort.origin["site"].tolist() == ["A"] * 8
    assert not {"person", "site"} & {*cohort.table}
    assert load_cohort(data.replace({"person_column": "ID"})).table["group"].is_unique
    (tmp_path / "clinical.csv").write_text(text.replace("7.0", "7"))
    assert load_cohort(data).fingerprint() != cohort.fingerprint()
    (tmp_path / "clinical.csv").write_text(
        text.replace(",A\n", ",\n", 1).replace(",7.0,A", ",1,=A")
    )
    missing, formula = problems_of(data)
    assert "SITE is missing" in missing
    assert "SITE is no plain name" in formula
    assert (
        "data.person_column=null data.site_column=null does without"
        in problems_of(data.replace({"person_column": "OTHER"}))[0]
    )


def test_missing_values_may_be_left_to_the_model(tmp_path):
    data = write_table(tmp_path, f"{HEADER}\nP1,1,n/a,,5\nP2,0,NaN,,NA\n", ["P1", "P2"])
    table = load_cohort(data.replace({"missing": "impute"})).table
    assert table["group"].tolist() == [0, 1]  # of no known birth date and sex
    assert table[["age", "sex"]].isna().all(axis=None)
    assert table["lymphocyte_count"].isna().tolist() == [False, True]
    assert table.dtypes.astype(str).to_dict() == {
        "label": "int64", "group": "int64", "age": "float64", "lymphocyte_count": "float64",
        "sex": "str",
    }  # fmt: skip
    lines = problems_of(data)
    assert len(lines) == 5
    assert all("is missing" in line and "data.missing=impute" in line for line in lines)


def test_a_category_may_be_called_na(tmp_path):
    data = write_table(tmp_path, f"{HEADER}\nNA,1,NA,1/7/1948,5\n", ["NA"])
    column = {"kind": "categorical", "column": "GENDER"}
    columns = {
        "columns.origin": column | {"values": {"NA": "north", "F": "f"}},
        "columns.sex": column | {"values": {"NA": 1, 0: 0}},
    }
    table = load_cohort(data.replace(columns)).table
    assert table.loc["NA", ["origin", "sex"]].tolist() == ["north", "1"]


# Dialects of tables


@pytest.mark.parametrize(
    ("separator", "newline", "start", "order"),
    [(",", "\r\n", "\ufeff", (0, 1, 2, 3, 4, 5)), (";", "\r", "", (3, 1, 5, 0, 2, 4)),
     ("\t", "\n\n", "", (5, 4, 3, 2, 1, 0))],
)  # fmt: skip
def test_any_dialect_gives_the_same_cohort(tmp_path, separator, newline, start, order):
    """Columns in any order, an index and free text among them, quoted where need be."""
    rows = [row.split(",") for row in [HEADER, *TRAIN, *TEST]]
    ids = ["P10", "P1", "P2", "P3"]
    cohort = load_cohort(write_table(tmp_path, "\n".join(map(",".join, rows)), ids))
    cells = [['"a ""b"", \t;é"', *(f" {cell} " for cell in row)] for row in rows]
    text = newline.join(separator.join(row[i] for i in order) for row in cells)
    assert same(load_cohort(write_table(tmp_path, (start + text).encode(), ids)), cohort)


def test_rows_are_counted_as_an_editor_counts(tmp_path):
    text = 'ID;REMARK;LABEL;GENDER;DOB;LYMPH_COUNT\n\nP1;"two\nlines";1;F;1/7/1948;5\n'
    text += ";;;;;\nP2;one;1;F;1/7/1948;high\n"
    data = write_table(tmp_path, text, ["P1", "P2"])
    (problem,) = load_cohort_lenient(data)[1].problems
    assert problem.place.where == "row 6, patient P2"
    assert str(problem).endswith("('high'); write digits with a decimal point, without unit")


@pytest.mark.parametrize(("content", "told"), [
    (b"", "the table is empty"),
    (HEADER.encode(), "no patient in any table"),
    (b"ID,LABEL,GENDER,DOB\nP1,1,F,1/7/1948", "row 1: no column LYMPH_COUNT; it has 'ID', "),
    (b"P1,1,F,1/7/1948,5", "row 1: no header with DOB, GENDER, ID, LABEL, LYMPH_COUNT"),
    ((HEADER + ",DOB\nP1,1,F,1/7/1948,5,x").encode(), "row 1: 2 columns are called DOB"),
    ((HEADER + "\nP1,1,F,1/7/1948,4,8").encode(), "row 2: 6 cells where the header has 5"),
    ((HEADER + "\nP1,1,F").encode(), "row 2: 3 cells where the header has 5"),
    ((HEADER + '\nP1,1,F,1/7/1948,"5"x').encode(), "not a CSV file"),
    ((HEADER + "\nP1,1,F\xe9,1/7/1948,5").encode("latin-1"), "row 2: not UTF-8"),
    (b"\x89PNG\r\n\x1a\n\x00\x00", "row 1: not UTF-8"),
])  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path, content, told):
    data = write_table(tmp_path, content, [] if content == HEADER.encode() else ["P1"])
    (line,) = problems_of(data)
    assert told in line
    assert str(tmp_path) in line
    assert "1948" not in line.replace(str(tmp_path), "")


def test_a_missing_table_and_a_missing_root_are_problems(tmp_path):
    data = write_kaggle(tmp_path)
    (tmp_path / "testset/testset_data.csv").unlink()
    (line,) = problems_of(data)
    assert "testset_data.csv: the table cannot be read (No such file" in line
    both = problems_of(data.replace({"root": str(tmp_path / "nowhere")}))
    assert len(both) == 2


# Cells at fault


@pytest.mark.parametrize(("column", "value", "what"), [
    ("ID", "", "ID is not a safe id"),
    ("ID", "Pé2", "ID is not a safe id"),
    ("LABEL", "2", "LABEL is none of '1', '0', '-1'"),
    ("LABEL", "1.0", "LABEL is none of"),
    ("GENDER", "X", "GENDER is none of F, f, M, m"),
    ("GENDER", "", "GENDER is missing"),
    ("DOB", "30-02-1950", "DOB is not a date of the form %m/%d/%Y %d-%m-%Y"),
    ("DOB", "13/1/1950", "DOB is not a date"),
    ("DOB", "1-2-50", "DOB is not a date"),
    ("DOB", "1.2.1950", "DOB does not contain exactly one of the separators / -"),
    ("DOB", "1/2-1950", "DOB does not contain exactly one of the separators / -"),
    ("DOB", "2-1-2020", "DOB is after data.reference_date 2020-01-01"),
    ("DOB", "1-1-1899", "DOB makes the patient older than 120"),
    ("DOB", "NA", "DOB is missing"),
    ("LYMPH_COUNT", "1_0", "LYMPH_COUNT is not a number"),
    ("LYMPH_COUNT", "inf", "LYMPH_COUNT is not a number"),
    ("LYMPH_COUNT", "1e99", "LYMPH_COUNT is not a number"),
    ("LYMPH_COUNT", "-4.8", "LYMPH_COUNT is not above 0"),
    ("LYMPH_COUNT", "19481207", "LYMPH_COUNT is written like a date"),
    ("LYMPH_COUNT", "19481207.0", "LYMPH_COUNT is written like a date"),
])  # fmt: skip
def test_a_wrong_cell_is_a_problem_with_file_row_and_patient(tmp_path, column, value, what):
    row = dict(zip(HEADER.split(","), TRAIN[1].split(","), strict=True)) | {column: value}
    data = write_kaggle(tmp_path, [TRAIN[0], ",".join(row.values()), TRAIN[2]])
    problem, *others = load_cohort_lenient(data)[1].problems
    assert problem.place.path == tmp_path / "trainset/trainset_true.csv"
    assert problem.place.where.startswith("row 3, patient ")
    assert problem.what.startswith(what)
    hidden = column == "DOB" or "missing" in what
    assert problem.private == ("" if hidden else hide_dates(repr(value)))
    assert all(other.what == "no such folder" for other in others)  # of an id that can have none
    if column != "ID":
        assert problem.place.where == "row 3, patient P1"
        assert not others
    assert all("\n" not in line for line in problems_of(data))


def test_everything_is_found_at_once_and_no_valid_birth_date_is_shown(tmp_path):
    train = [
        "P1,1,X,1/7/1948,5",
        "P1,0,M,19-12-1940,0",
        "P/2,3,F,12/31/1950,9",
        "P4,1,F,1/2/1951,9",
    ]
    data = write_kaggle(tmp_path, train, ["P1,-1,F,2/29/1948,6"])
    (tmp_path / "trainset/p1").mkdir()  # no patient, though it looks like one
    for number, name in enumerate(("a.png", "b.JPE")):
        (tmp_path / f"trainset/P4/00000{number}.jpg").rename(tmp_path / "trainset/P4" / name)
        (tmp_path / f"testset/P1/00000{number}.jpg").unlink()
    problems = load_cohort_lenient(data)[1].problems
    found = [(each.place.path.name, each.place.where, each.what) for each in problems]
    table, test = "trainset_true.csv", "testset_data.csv"
    assert sorted(found) == sorted([
        (table, "row 2, patient P1", "GENDER is none of F, f, M, m"),
        (table, "row 3, patient P1", "LYMPH_COUNT is not above 0"),
        (table, "row 4, patient 'P/2'", "ID is not a safe id"),
        (table, "row 4, patient 'P/2'", "LABEL is none of '1', '0', '-1'"),
        (table, "row 4, patient 'P/2'", "no such folder"),
        ("trainset", "folder 'p1'", "no row in the table"),
        (table, "row 5, patient P4", "no image *.jpg"),
        (test, "row 2, patient P1", "no image *.jpg"),
        (table, "row 3, patient P1", "another row has this id"),
        (test, "row 2, patient P1", "another row has this id"),
    ])  # fmt: skip
    for year in ("1948", "1940", "1950", "1951"):
        assert year not in "".join(problems_of(data)).replace(str(tmp_path), "")


# Subgroups


def test_every_grouping():
    ids = ["A", "B", "C", "D"]
    values = {"label": [0, 1, 1, 0], "group": range(4),
              "lymphocyte_count": [8.0, 8.01, 7.9, float("nan")],
              "age": [64.9, 65.0, 80.0, float("nan")],
              "sex": pd.Series(["F", "M", None, "M"], index=ids, dtype="str")}  # fmt: skip
    table = pd.DataFrame(values, ids)
    origin = {"table": 0, "row": [5, 2, 4, 3], "age format": ["/", "-", "/", None]}
    origin = pd.DataFrame(origin, ids)
    cohort = Cohort("tiny", table, dict.fromkeys(ids, ()), origin)
    found = subgroups(cohort, KAGGLE)
    assert found.to_dict("list") == {
        "hard": ["1", "0", "1", "unknown"],
        "age": ["below 65", "65 and above", "65 and above", "unknown"],
        "age format": ["/", "-", "/", "unknown"],
        "sex": ["F", "M", "unknown", "M"],
        "acquisition_half": ["later half", "earlier half", "later half", "earlier half"],
    }
    assert list(found.index) == ids
    assert "hard" not in subgroups(cohort, KAGGLE.replace({"hard_stratum": None}))
    table["group"] = [0, 1, 0, 2]
    records = subgroups(cohort, KAGGLE)["records of the person"]
    assert records.tolist() == ["several", "one", "several", "one"]


# Shipped options


def test_the_shipped_table_option_reads_what_its_comments_say(tmp_path):
    (tmp_path / "images/P1").mkdir(parents=True)
    (tmp_path / "images/P1/0001.png").touch()
    text = "ID,LABEL,DOB,LYMPH_COUNT,GENDER\nP1,1,07/01/1948,52.1,F\n"
    (tmp_path / "clinical.csv").write_text(text)
    data = data_config("table", {"root": str(tmp_path)})
    slashes = load_cohort(data)
    (tmp_path / "clinical.csv").write_text(text.replace("07/01/1948", "1948-01-07"))
    assert same(load_cohort(data), slashes)
    assert slashes.table["age"].item() == pytest.approx(71.98, abs=0.01)


# Any text: what is not refused is read right

cell = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)


@given(st.from_regex(r"[0-9]{1,2}[-/. ][0-9]{1,2}[-/.][0-9]{1,5}", fullmatch=True) | cell)
def test_no_date_is_misread(text: str):
    with suppress(CellError):
        age = read_cell("age", text, KAGGLE)
        a, b, year = (int(part) for part in text.replace("/", "-").split("-"))
        day = date(year, a, b) if "/" in text else date(year, b, a)
        assert age == (date(2020, 1, 1) - day).days / 365.25


@given(st.floats().map(str) | st.integers().map(str) | cell)
def test_no_number_is_misread(text: str):
    with suppress(CellError):
        assert read_cell("lymphocyte_count", text, KAGGLE) == float(text) > 0
