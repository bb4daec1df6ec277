"""A synthetic cohort on disk: Kaggle's layout to the letter, complete or absent, equal bytes."""

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.synthetic import cohort as synthetic
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.data.synthetic.population import REFERENCE_DATE

SMALL: dict[str, Any] = {
    "patients": 20, "test_patients": 7, "images": (1, 3), "size": 16, "seed": 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "deep" / "cohort"
    synthesize(out, **SMALL)
    return out


@pytest.fixture(scope="module")
def truth(cohort: Path) -> dict[str, Any]:
    return json.loads((cohort / "truth.json").read_text())


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str)


def parse(written: str) -> datetime:
    return datetime.strptime(written, "%m/%d/%Y" if "/" in written else "%d-%m-%Y")


def test_layout_is_kaggles(cohort: Path) -> None:
    top = {"clinical_annotation.csv", "sample_submission.csv", "trainset", "testset", "truth.json"}
    assert {path.name for path in cohort.iterdir()} == top
    headers = {
        "clinical_annotation.csv": ",ID,LABEL,GENDER,DOB,LYMPH_COUNT",
        "sample_submission.csv": "ID,LABEL",
        "trainset/trainset_true.csv": "ID,LABEL,GENDER,DOB,LYMPH_COUNT",
        "testset/testset_data.csv": "ID,LABEL,GENDER,DOB,LYMPH_COUNT",
    }
    for name, header in headers.items():
        assert (cohort / name).read_text().splitlines()[0] == header

    everyone = read(cohort / "clinical_annotation.csv")
    assert everyone.iloc[:, 0].tolist() == [str(i) for i in range(27)]
    train = read(cohort / "trainset" / "trainset_true.csv")
    test = read(cohort / "testset" / "testset_data.csv")
    assert set(train["LABEL"]) == {"0", "1"}
    assert set(test["LABEL"]) == {"-1"}
    parts = pd.concat([train, test]).set_index("ID")
    assert parts.loc[everyone["ID"]].equals(everyone.set_index("ID")[parts.columns])

    sample = read(cohort / "sample_submission.csv")
    assert 0 < len(sample) < len(test)
    assert set(sample["ID"]) < set(test["ID"])


def test_images_are_small_jpegs_numbered_from_zero(cohort: Path, truth: dict[str, Any]) -> None:
    for name, patient in truth["patients"].items():
        files = sorted((cohort / patient["split"] / name).iterdir())
        assert [file.name for file in files] == [f"{i:06d}.jpg" for i in range(len(files))]
        assert 1 <= len(files) == len(patient["cells"]) <= 3
        for file in files:
            with Image.open(file) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (16, 16))


def test_folders_are_the_tables_ids(cohort: Path) -> None:
    for split, name in (("trainset", "trainset_true.csv"), ("testset", "testset_data.csv")):
        ids = read(cohort / split / name)["ID"]
        assert {p.name for p in (cohort / split).iterdir() if p.is_dir()} == set(ids)


def test_quirks(cohort: Path) -> None:
    table = read(cohort / "clinical_annotation.csv")
    assert table["GENDER"].value_counts()["f"] == 1
    assert set(table["GENDER"]) == {"F", "M", "f"}
    slashes = table["DOB"].str.contains("/")
    assert table["DOB"][slashes].str.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}").all()
    assert table["DOB"][~slashes].str.fullmatch(r"\d\d-\d\d-\d{4}").all()
    assert 2 <= (~slashes).sum() <= 10
    numbers = table["ID"].str[1:].astype(int)
    assert table["ID"].str.fullmatch(r"P\d+").all()
    assert numbers.is_unique
    assert numbers.max() > len(table)
    assert not numbers.is_monotonic_increasing


def test_two_training_records_share_birth_date_and_sex(cohort: Path) -> None:
    train = read(cohort / "trainset" / "trainset_true.csv")
    person = train["DOB"].map(parse).astype(str) + train["GENDER"].str.upper()
    pair = train[person.duplicated(keep=False)]
    assert len(pair) == 2
    assert pair["ID"].is_unique
    assert pair["LABEL"].nunique() == 1


def test_dates_parse_to_the_stored_age(cohort: Path, truth: dict[str, Any]) -> None:
    table = read(cohort / "clinical_annotation.csv")
    for name, written in zip(table["ID"], table["DOB"], strict=True):
        age = (REFERENCE_DATE - parse(written).date()).days / 365.25
        assert age == pytest.approx(truth["patients"][name]["age"], abs=1e-4)


def test_truth_knows_every_label_and_only_truth_those_of_the_test(
    cohort: Path, truth: dict[str, Any]
) -> None:
    train = read(cohort / "trainset" / "trainset_true.csv").set_index("ID")["LABEL"].astype(int)
    stored = pd.Series({name: patient["label"] for name, patient in truth["patients"].items()})
    assert stored[train.index].equals(train)
    test = [n for n, p in truth["patients"].items() if p["split"] == "testset"]
    assert set(stored[test]) == {0, 1}
    assert set(read(cohort / "sample_submission.csv")["LABEL"]) == {"0"}
    assert set(truth["best_balanced_accuracy"]) == {"table", "images", "both"}


def test_date_format_and_row_order_tell_nothing() -> None:
    """Without drawing an image: 4000 patients' formats and ids against their labels."""
    keys = [(synthetic.TRAIN, index) for index in range(5, 4005)]
    drawn = {key: synthetic.draw_patient((1, 3), 0, *key) for key in keys}
    ids = {key: synthetic.patient_id(0, *key) for key in keys}
    table = synthetic._table(drawn, ids, seed=0)
    label = table["LABEL"].to_numpy()
    dashed = table["DOB"].str.contains("-").to_numpy()
    assert dashed.mean() == pytest.approx(0.2, abs=1e-3)
    place, number = np.arange(len(table)), table["ID"].str[1:].astype(int)
    for shortcut in (dashed, place, number, table["GENDER"] == "M"):
        assert abs(np.corrcoef(shortcut, label)[0, 1]) < 4 / np.sqrt(len(table))


def test_equal_arguments_give_equal_bytes(cohort: Path, tmp_path: Path) -> None:
    synthesize(tmp_path / "again", **SMALL)
    assert digests(tmp_path / "again") == digests(cohort)
    synthesize(tmp_path / "other", **SMALL | {"seed": 6})
    assert not set(digests(tmp_path / "other").values()) & set(digests(cohort).values())


def test_more_patients_leave_the_others_as_they_were(cohort: Path, tmp_path: Path) -> None:
    more = synthesize(tmp_path / "more", **SMALL | {"patients": 23, "test_patients": 9})
    few, many = digests(cohort), digests(tmp_path / "more")
    images = {name for name in few if name.endswith(".jpg")}
    assert all(many[name] == few[name] for name in images)
    assert len(more["patients"]) == 32
    rows, more_rows = (
        read(folder / "clinical_annotation.csv").set_index("ID").iloc[:, 1:]
        for folder in (cohort, tmp_path / "more")
    )
    assert more_rows.loc[rows.index].equals(rows)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_interrupted_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        assert any(tmp_path.iterdir())  # it has begun
        raise interruption

    monkeypatch.setattr(synthetic, "_write_tables", fail)
    with pytest.raises(interruption):
        synthesize(tmp_path / "cohort", **SMALL)
    assert not any(tmp_path.iterdir())


def test_folder_has_the_usual_permissions(cohort: Path) -> None:
    umask = os.umask(0)
    os.umask(umask)
    assert cohort.stat().st_mode & 0o777 == 0o777 & ~umask


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    synthesize(tmp_path, **SMALL)
    assert (tmp_path / "truth.json").is_file()


def test_folder_with_something_in_it_is_refused(cohort: Path) -> None:
    before = digests(cohort)
    with pytest.raises(InputError, match="not empty"):
        synthesize(cohort, **SMALL)
    assert digests(cohort) == before


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "cohort"):
        with pytest.raises(InputError, match="is a file"):
            synthesize(out, **SMALL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"patients": 14}, {"test_patients": 0}, {"images": (0, 3)}, {"images": (4, 3)},
        {"size": 15}, {"seed": -1},
    ],
)  # fmt: skip
def test_wrong_values_are_refused_by_name(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(wrong))}=") as refusal:
        synthesize(tmp_path / "cohort", **SMALL | wrong)
    assert len(refusal.value.problems) == 1
    assert not any(tmp_path.iterdir())


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        synthesize(tmp_path / "cohort", 3, 0, (5, 2), 8, -1)
    assert len(refusal.value.problems) == 5
