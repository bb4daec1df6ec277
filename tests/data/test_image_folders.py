"""Every entry below a patient's folder is an image that is used, or counted by why it is not."""

import pytest

from lymphoml.audit.run import audit
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort, load_cohort_lenient
from lymphoml.data.image_folders import DEEPER, HIDDEN, LOOSE, OTHER, SYSTEM
from tests.data.test_cohort import write_kaggle

JUNK = ("@eaDir/000000.jpg@SynoEAStream", "__MACOSX/._0.jpg", "Thumbs.db", "DESKTOP.INI",
        ".DS_Store", "._000000.jpg", "Icon\r", "System Volume Information/x", "$RECYCLE.BIN/x",
        "lost+found/x.jpg")  # fmt: skip


@pytest.fixture
def cohort(tmp_path):
    """P1 to P3 with two images each; hidden files are removed."""
    data = write_kaggle(tmp_path)
    for path in tmp_path.rglob(".*"):
        path.unlink()
    return tmp_path, data


def plant(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_what_file_systems_leave_is_passed_over_and_counted(cohort):
    root, data = cohort
    plain = load_cohort(data)
    assert plain.unused_files == {}
    for name in ("trainset", "trainset/P1", "testset/P3"):
        plant(root / name, *JUNK)
    found = load_cohort(data)
    assert found.images == plain.images
    assert found.unused_files == {SYSTEM: 3 * len(JUNK)}
    assert found.labelled.unused_files == {SYSTEM: 2 * len(JUNK)}
    assert load_cohort(data.replace({"image_pattern": "*"})).images == plain.images
    assert {each["severity"] for each in audit(data)["findings"] if "not used" in each["what"]} == {
        "note"
    }


def test_a_suffix_in_another_case_is_the_same(cohort):
    root, data = cohort
    plant(root / "trainset/P1", "2.JPG", "3.Jpg", "IMG.jpg.png", "a.PNG")
    found = load_cohort(data)
    names = [path.name for path in found.images["P1"]]
    assert names == ["000000.jpg", "000001.jpg", "2.JPG", "3.Jpg"]
    assert found.unused_files == {"*.png": 2}
    upper = load_cohort(data.replace({"image_pattern": "*.JPG"}))
    assert upper.images == found.images
    exact = data.replace({"image_pattern": "IMG*.[pP]ng"})
    bags = load_cohort_lenient(exact)[1].images
    assert {patient: len(paths) for patient, paths in bags.items()} == {"P1": 1}


def test_everything_else_is_named_and_counted(cohort, capsys):
    root, data = cohort
    plant(root / "trainset/P1", "a.png", "b.PNG", "c.tif", "notes.txt", "no suffix", ".hidden.jpg",
          "scans/1.jpg", "scans/2/3.jpg", "empty.txt/x")  # fmt: skip
    plant(root / "trainset", "loose.jpg", ".git")
    (root / "trainset/P10/broken.png").symlink_to("nowhere")
    (root / "trainset/P10/loop").symlink_to(root)
    (root / "trainset/P10/itself").symlink_to("itself")
    found = load_cohort(data)
    assert found.unused_files == {
        "*.png": 3, "*.tif": 1, OTHER: 3, HIDDEN: 1, DEEPER: 4, LOOSE: 1,
    }  # fmt: skip
    found.print_unused()
    line = capsys.readouterr().out
    assert line.startswith("8 images are used; not used: 3 *.png, 1 *.tif, 1 hidden, 4 in deeper")
    content = audit(data)
    assert content["images"]["unused"] == found.unused_files
    what = {each["what"]: each for each in content["findings"]}
    assert what["3 files not used: *.png"]["where"] == ["P10: 1", "P1: 2"]
    assert what["3 files not used: *.png"]["severity"] == "warning"
    for path in (root / "trainset/P1").glob("00*"):
        path.unlink()
    (problem,) = load_cohort_lenient(data)[1].problems
    assert "there: 2 *.png, 1 *.tif, 1 hidden" in str(problem)


def test_links_out_of_the_root_are_followed_where_meant(cohort, tmp_path_factory):
    root, data = cohort
    plain, store = load_cohort(data), tmp_path_factory.mktemp("store")
    image, bag, table = (root / "trainset" / name for name in ("P1/000000.jpg", "P2",
                                                               "trainset_true.csv"))  # fmt: skip
    for path in (image, bag, table, root / "testset"):
        path.symlink_to(path.rename(store / path.name))
    with pytest.raises(InputError) as caught:
        load_cohort(data)
    lines = [line for line in caught.value.problems if "data.follow_links=true" in line]
    assert len(lines) == 5  # of the test set its table and its folder
    meant = data.replace({"follow_links": True})
    assert load_cohort(meant).images == plain.images
    (store / "000000.jpg").unlink()
    with pytest.raises(InputError, match="a broken link"):
        load_cohort(meant)
    outside = meant.replace({"layout": "table", "table": f"../{store.name}/trainset_true.csv"})
    with pytest.raises(InputError, match=r"a place outside data\.root"):
        load_cohort(outside)
