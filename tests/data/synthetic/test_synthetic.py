"""A synthetic cohort on disk: Kaggle's layout to the letter, complete or absent, equal bytes."""

import json
import os
from datetime import datetime

import pandas as pd
import pytest
from PIL import Image

from lymphoml.core.errors import InputError
from lymphoml.data.synthetic import cohort as synthetic
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.data.synthetic.population import REFERENCE_DATE

SMALL = {"patients": 20, "test_patients": 7, "images": (1, 3), "size": 16, "seed": 5}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "deep" / "cohort"
    synthesize(out, **SMALL)
    return out


@pytest.fixture(scope="module")
def truth(cohort):
    return json.loads((cohort / "truth.json").read_text())


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(path):
    return pd.read_csv(path, dtype=str)


def parse(written):
    return datetime.strptime(written, "%m/%d/%Y" if "/" in written else "%d-%m-%Y")


def test_layout_is_kaggles(cohort):
    top = {"clinical_annotation.csv", "sample_submission.csv", "trainset", "testset", "truth.json"}
    assert {path.name for path in cohort.iterdir()} == top
    whole = read(cohort / "clinical_annotation.csv")
    assert (cohort / "clinical_annotation.csv").read_text().startswith(",ID,LABEL,")
    assert whole.iloc[:, 0].tolist() == [str(i) for i in range(27)]
    train = read(cohort / "trainset" / "trainset_true.csv")
    test = read(cohort / "testset" / "testset_data.csv")
    assert list(train) == list(test) == ["ID", "LABEL", "GENDER", "DOB", "LYMPH_COUNT"]
    parts = pd.concat([train, test]).set_index("ID")
    assert parts.loc[whole["ID"]].equals(whole.set_index("ID")[parts.columns])
    sample = read(cohort / "sample_submission.csv")
    assert list(sample) == ["ID", "LABEL"]
    assert 0 < len(sample) < len(test)
    assert set(sample["ID"]) < set(test["ID"])
    assert set(sample["LABEL"]) == {"0"}
    umask = os.umask(0)
    os.umask(umask)
    assert cohort.stat().st_mode & 0o777 == 0o777 & ~umask


def test_each_patient_has_a_true_label_and_a_folder_of_small_jpegs(cohort, truth):
    for split in ("trainset", "testset"):
        (table,) = (cohort / split).glob("*.csv")
        labels = read(table).set_index("ID")["LABEL"].astype(int)
        folders = {path.name for path in (cohort / split).iterdir() if path.is_dir()}
        assert folders == set(labels.index)
        true = pd.Series({name: truth["patients"][name]["label"] for name in labels.index})
        assert set(true) == {0, 1}
        assert (labels == (true if split == "trainset" else -1)).all()
    assert set(truth["best_balanced_accuracy"]) == {"table", "images", "both"}
    for name, patient in truth["patients"].items():
        files = sorted((cohort / patient["split"] / name).iterdir())
        assert [file.name for file in files] == [f"{i:06d}.jpg" for i in range(len(files))]
        assert 1 <= len(files) == len(patient["cells"]) <= 3
        for file in files:
            with Image.open(file) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (16, 16))


def test_the_tables_quirks_are_kaggles(cohort, truth):
    table = read(cohort / "clinical_annotation.csv")
    assert table["GENDER"].value_counts()["f"] == 1
    assert set(table["GENDER"]) == {"F", "M", "f"}
    slashes = table["DOB"].str.contains("/")
    assert table["DOB"][slashes].str.fullmatch(r"[1-9]\d?/[1-9]\d?/\d{4}").all()
    assert table["DOB"][~slashes].str.fullmatch(r"\d\d-\d\d-\d{4}").all()
    assert 2 <= (~slashes).sum() <= 10
    assert table["ID"].str.fullmatch(r"P\d+").all()
    numbers = table["ID"].str[1:].astype(int)
    assert numbers.is_unique
    assert numbers.max() > len(table)
    for name, written in zip(table["ID"], table["DOB"], strict=True):
        age = (REFERENCE_DATE - parse(written).date()).days / 365.25
        assert age == pytest.approx(truth["patients"][name]["age"], abs=1e-4)


def test_equal_arguments_give_equal_bytes_and_more_patients_change_no_other(cohort, tmp_path):
    synthesize(tmp_path, **SMALL)  # an empty folder is taken
    few = contents(cohort)
    assert contents(tmp_path) == few
    synthesize(tmp_path / "other", **SMALL | {"seed": 6})
    assert not set(contents(tmp_path / "other").values()) & set(few.values())
    synthesize(tmp_path / "more", **SMALL | {"patients": 23, "test_patients": 9})
    many = contents(tmp_path / "more")
    assert all(many[name] == few[name] for name in few if name.endswith(".jpg"))
    rows, more_rows = (
        read(folder / "clinical_annotation.csv").set_index("ID").iloc[:, 1:]
        for folder in (cohort, tmp_path / "more")
    )
    assert more_rows.loc[rows.index].equals(rows)


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        assert any(tmp_path.iterdir())  # it has begun
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_write_tables", fail)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "cohort", **SMALL)
    assert not any(tmp_path.iterdir())


def test_existing_files_are_never_replaced(cohort, tmp_path):
    with pytest.raises(InputError, match="not empty"):
        synthesize(cohort, **SMALL)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "cohort"):
        with pytest.raises(InputError, match="is a file"):
            synthesize(out, **SMALL)


def test_wrong_values_are_refused_by_name_and_at_once(tmp_path):
    with pytest.raises(InputError) as refusal:
        synthesize(tmp_path / "cohort", 14, 0, (4, 3), 15, -1, 1.5)
    keys = [line.split("=")[0] for line in refusal.value.problems]
    assert keys == ["patients", "test_patients", "images", "size", "seed", "clinical_effect"]
    assert not any(tmp_path.iterdir())
