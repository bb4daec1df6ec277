"""A cohort from Kaggle: in its place whole and checked, or not there at all."""

import io
import zipfile
from unittest.mock import Mock

import pytest

from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError, UserFacingError
from lymphoml.data import download
from lymphoml.data.download import count, download_cohort
from tests.fake_kaggle import COMPETITION, TOKEN


@pytest.fixture
def archive(cohort):
    """The synthetic cohort, zipped with a folder around it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for path in sorted(cohort.rglob("*")):
            file.write(path, f"files/{path.relative_to(cohort)}")
    return content.getvalue()


@pytest.fixture
def config(tmp_path):
    return data_config("lymphocytosis", {"root": str(tmp_path / "data" / "cohort")})


def listing(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*"))


def test_a_cohort_is_fetched_whole_and_never_written_to_again(
    kaggle, archive, cohort, config, tmp_path, monkeypatch
):
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    kaggle.archive, root = archive, tmp_path / "data" / "cohort"
    root.mkdir(parents=True)  # empty
    assert count(download_cohort(config, COMPETITION))[:2] == (16, 3)
    assert listing(root) == listing(cohort)
    assert [path.name for path in root.parent.iterdir()] == ["cohort"]

    requests, before = len(kaggle.requests), {each: each.stat() for each in root.rglob("*")}
    monkeypatch.setitem(download.COUNTS, COMPETITION, (17, 3, 5))
    with pytest.raises(InputError, match=r"has 16 labelled.*has 17, 3 and 5\. Move the folder"):
        download_cohort(config, COMPETITION)
    (root / "trainset" / "trainset_true.csv").unlink()
    with pytest.raises(InputError, match=r"trainset_true\.csv"):
        download_cohort(config, COMPETITION)
    assert len(kaggle.requests) == requests
    assert before.keys() - set(root.rglob("*")) == {root / "trainset" / "trainset_true.csv"}


@pytest.mark.parametrize(("change", "problem"), [
    ("rules", r"accept this competition's rules.*Accept the competition's rules on its page"),
    ("damaged", r"damaged.*was removed; rerun"),
    ("other", r"must hold trainset/trainset_true\.csv once"),
    ("room", r"needs .* kB, has 1\.0 kB; make room"),
    pytest.param("key", "no valid credentials.*KAGGLE_API_TOKEN", marks=pytest.mark.slow),
    pytest.param("name", r"Give the name in the competition's address", marks=pytest.mark.slow),
])  # fmt: skip
def test_what_cannot_be_fetched_is_one_line_and_no_folder(
    kaggle, archive, config, tmp_path, monkeypatch, change, problem
):
    if change != "key":
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    kaggle.archive, kaggle.rules_accepted = archive, change != "rules"
    if change == "damaged":
        kaggle.archive = archive[: len(archive) // 2]
    elif change == "other":
        kaggle.archive = archive.replace(b"trainset_true.csv", b"trainset_soso.csv")
    elif change == "room":
        monkeypatch.setattr("shutil.disk_usage", lambda path: Mock(free=1000))
    with pytest.raises(UserFacingError, match=problem) as refusal:
        download_cohort(config, COMPETITION if change != "name" else "another")
    assert len(refusal.value.problems) == 1
    assert not (tmp_path / "data" / "cohort").exists()
