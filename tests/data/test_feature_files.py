from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.data.feature_files import read_encoder, read_feature_file, write_feature_file
from lymphoml.data.feature_store import FeatureScaler, FeatureStore, mean_std

IMAGES = {"007": (Path("a/0.png"), Path("a/1.png")), "NA": (Path("b/0.png"),)}
ROWS = {
    "007": np.array([[1, 2.5], [3, -4e-9]], np.float32),
    "NA": np.array([[1e9, 1 / 3]], np.float32),
}


def table():
    return pd.DataFrame({
        "patient": ["007", "007", "NA"], "image": ["0.png", "1.png", "0.png"],
        "one": [1.0, 3, 5], "two": [0.5, 2, 1],
    })  # fmt: skip


def written(tmp_path, rows):
    rows.to_csv(tmp_path / "mine.csv", index=False)
    return tmp_path / "mine.csv"


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_what_was_written_is_read(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    write_feature_file(path, FeatureStore(ROWS, ["one", "two"]), IMAGES, "UNI, 224 pixels")
    store, _ = read_feature_file(path, IMAGES)
    assert store.names == ["one", "two"]
    assert store.encoder == read_encoder(path) == "UNI, 224 pixels"
    for patient, rows in ROWS.items():
        assert np.array_equal(store.bag(patient), rows)


def test_rows_come_in_the_order_of_the_images_wherever_they_stand(tmp_path):
    one, key = read_feature_file(written(tmp_path, table()), IMAGES)
    stranger = pd.DataFrame([["P9", "0.png", 7, "nan"]], columns=table().columns)
    rows = pd.concat([table()[::-1], stranger])  # another cohort's patient is passed over
    other, again = read_feature_file(written(tmp_path, rows), IMAGES)
    assert key == again
    for patient in IMAGES:
        assert np.array_equal(one.bag(patient), other.bag(patient))
    for changed in (table().rename(columns={"two": "three"}), table().replace({"two": {2: 2.1}})):
        assert read_feature_file(written(tmp_path, changed), IMAGES)[1] != key


@pytest.mark.parametrize(("spoil", "said"), [
    (lambda t: t[:2], r"no row for image 0\.png of patient NA"),
    (lambda t: pd.concat([t, t[:1]]), r"image 0\.png of patient 007 is duplicated"),
    (lambda t: t.replace("1.png", "9.png"), r"image 9\.png of patient 007 is not in"),
    (lambda t: t.assign(two=[0.5, "", 1]), r"image 1\.png of patient 007: not a finite number"),
    (lambda t: t.assign(two=[0.5, "inf", 1]), r"column two, image 1\.png"),
    (lambda t: t.assign(two=[0.5, "1e300", 1]), r"column two, image 1\.png"),
    (lambda t: t.assign(encoder=["a", "b", "a"]), r"encoder must be one printable text"),
    (lambda t: t.assign(encoder="a")[:0], r"encoder must be one printable text"),
    (lambda t: t.drop(columns="image"), r"needs patient and image"),
    (lambda t: t[["patient", "image"]], r"only patient and image"),
    (lambda t: t[:0], r"no row for image"),
    (lambda t: t.reset_index(names=""), r"is no feature"),
    (lambda t: t.assign(label=1), r"column 'label': is no feature"),
    (lambda t: t.assign(LABEL=1), r"column 'LABEL': is no feature"),
    (lambda t: t.assign(ID=1), r"column 'ID': is no feature"),
])  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, spoil, said):
    path = written(tmp_path, spoil(table()))
    with pytest.raises(InputError, match=said) as error:
        read_feature_file(path, IMAGES)
    assert all("\n" not in line and path.name in line for line in error.value.problems)


@pytest.mark.parametrize(("name", "content"), [
    ("no.csv", None), ("not.npz", b"junk"), ("not.csv", b"\xff\xfe"), ("rows.txt", b"a,b"),
])  # fmt: skip
def test_files_that_cannot_be_read_are_one_line(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as error:
        read_feature_file(tmp_path / name, IMAGES)
    (line,) = error.value.problems
    assert "\n" not in line


def test_a_view_is_fitted_on_the_patients_given_alone():
    random = np.random.default_rng(0)
    rows = {p: random.normal(5, 3, (20, 2)).astype(np.float32) for p in "ABC"}
    rows["C"] += 1e6
    view = FeatureScaler.fit(FeatureStore(rows, ["one", "two"]), ["A", "B"])
    seen = view(torch.from_numpy(np.concatenate([rows["A"], rows["B"]])))
    assert seen.mean(0).numpy() == pytest.approx(0, abs=1e-5)
    assert seen.std(0, correction=0).numpy() == pytest.approx(1, abs=1e-5)
    assert FeatureScaler(**view.state()) == view
    mean, scale = mean_std(np.full((5, 1), 0.1, np.float32))  # a constant is not blown up
    assert mean == pytest.approx(0.1)
    assert scale.tolist() == [1.0]
