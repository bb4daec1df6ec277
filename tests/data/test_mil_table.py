import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import csc_matrix

from lymphoml.core.errors import InputError
from lymphoml.data.mil_table import read_bag_rows, read_bags
from tests.data.mil_files import SUFFIXES, draw_mil_bags, write_mil_bags


@pytest.fixture(scope="module")
def bags():
    return draw_mil_bags(8)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_bags(bags, suffix, tmp_path):
    found = read_bags(write_mil_bags(tmp_path / f"set{suffix}", bags))
    assert list(found.table["id"]) == list(bags)
    assert list(found.table["label"]) == [str(label) for label, _ in bags.values()]
    for bag, (_, features) in bags.items():
        assert found.rows[bag].dtype == np.float32
        assert found.rows[bag] == pytest.approx(features, abs=1e-6)
        assert len(found.images[bag]) == len(features)


def test_uci_writes_integers_and_a_full_stop(tmp_path):
    """As clean1.data has them; the row is where the molecule begins."""
    path = tmp_path / "clean1.data"
    path.write_text(
        "MUSK-jf78,jf78_1+1,42,-198,1.\nMUSK-jf78,jf78_1+2,42,-191,1.\n"
        "NON-MUSK-199,199_1+1,7,3,0.\n"
    )
    found = read_bags(path)
    assert found.table["id"].to_dict() == {1: "MUSK-jf78", 3: "NON-MUSK-199"}
    assert [image.name for image in found.images["MUSK-jf78"]] == ["jf78_1+1", "jf78_1+2"]
    assert found.rows["NON-MUSK-199"].tolist() == [[7, 3]]


def test_a_sparse_row_may_end_early_and_a_comment_is_no_row(tmp_path):
    path = tmp_path / "fox.svm"
    path.write_text("# instance:bag:class\n0:7:1 3:0.5 1:2\n1:8:-1\n")
    found = read_bags(path)
    assert {bag: rows.tolist() for bag, rows in found.rows.items()} == {
        "7": [[2, 0, 0.5]], "8": [[0, 0, 0]],
    }  # fmt: skip
    assert found.table["id"].to_dict() == {2: "7", 3: "8"}


def test_the_digest_knows_every_number_and_where_a_bag_ends(tmp_path):
    def key(*lines):
        path = tmp_path / "set.data"
        path.write_text("\n".join(lines))
        return read_bag_rows(path, read_bags(path).images)[1]

    first = key("a,1,5,6,1.", "b,2,7,8,0.")
    assert first == key("a,one,5,6,1", "b,2,7,8,-1")  # neither names nor labels are rows
    assert first != key("a,1,5,6,1.", "b,2,7,8.5,0.")
    assert first != key("a,1,5,6,1.", "a,2,7,8,1.")


def spoilt(suffix, row, old, new):
    def make(folder):
        path = write_mil_bags(folder / f"set{suffix}", draw_mil_bags(8))
        lines = path.read_text().splitlines()
        assert old in lines[row - 1]
        lines[row - 1] = lines[row - 1].replace(old, new, 1)
        path.write_text("\n".join(lines))
        return path

    return make


def matlab(**changes):
    def make(folder):
        good = {"features": np.eye(3), "bag_ids": [[1, 1, 2]], "labels": [[1, 1, -1]]}
        variables = {key: each for key, each in (good | changes).items() if each is not None}
        savemat(folder / "set.mat", variables)
        return folder / "set.mat"

    return make


def holding(suffix, content):
    def make(folder):
        path = folder / f"set{suffix}"
        path.write_bytes(content)
        return path

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (spoilt(".data", 3, "_3+1,", "_3+1,many,"), r"row 3: 'many' is not a number"),
        (spoilt(".data", 3, "_3+1,", "_3+1,1_0,"), r"row 3: '1_0' is not a number"),
        (spoilt(".data", 3, "_3+1,", "_3+1,1,"), r"row 3: 13 numbers, 12 in row 2"),
        (holding(".data", b"a,1,5,2."), r"row 1: class '2' is none of 1, \+1, 0, -1"),
        (holding(".data", b"a,1,5,1.\n\na,2,5,0.\n"), r"row 3: bag a is of the other"),
        (spoilt(".data", 2, "1_2+1", "1_1+1"), r"row 2: instance 1_1\+1 of bag 1 stands in row 1"),
        (spoilt(".data", 1, "1,", "=1,"), r"row 1: bag '=1': write letters, digits, _ and -"),
        (spoilt(".data", 1, "1_1+1", "../1"), r"row 1: instance '\.\./1': write letters"),
        (spoilt(".svm", 2, "2:1:-1", "2:1"), r"row 2: '2:1' is no instance:bag:class"),
        (spoilt(".svm", 2, "-1 ", "-1 x:1 "), r"row 2: 'x:1' is no index:value"),
        (spoilt(".svm", 2, "-1 ", "-1 0:1 "), r"row 2: '0:1' is no index:value"),
        (spoilt(".svm", 2, "-1 ", "-1 90:1 90:1 "), r"row 2: '90:1' is no index:value"),
        (spoilt(".svm", 2, "-1 ", "-1 90:1e99 "), r"row 2: a number that is not finite"),
        (spoilt(".svm", 2, "-1 ", "-1 999999999:1 "), r"instances of 999,999,999 features"),
        (spoilt(".csv", 1, "label", "class"), r"row 1: the header has no column called label"),
        (spoilt(".csv", 1, "x1", "x0"), r"row 1: two columns of the header have one name"),
        (spoilt(".csv", 4, ",", ",,"), r"row 4: 15 cells where the header has 14"),
        (holding(".data", b""), r"row 1: no instance"),
        (holding(".csv", b"bag,label\n1,0\n"), r"1 instances of 0 features"),
        (holding(".data", b"\xff\xfe"), r"is no text in UTF-8"),
        (holding(".mat", b"junk"), r"no MATLAB file"),
        (holding(".txt", b"1,2,3"), r"allowed are files that end in"),
        (matlab(labels=None), r"has no variable labels"),
        (matlab(labels=[[1, 0]]), r"features of 3 instances, 3 bag_ids and 2 labels"),
        (matlab(labels=[[1, -1, -1]]), r"row 2: bag 1 is of the other class"),
        (matlab(labels=[[1, 1, 3]]), r"instance 3: its label is none of"),
        (matlab(bag_ids=[[1, 1, 2.5]]), r"instance 3: bag_ids must be whole numbers"),
        (matlab(features=np.full((3, 2), np.nan)), r"row 1: a number that is not finite"),
        (matlab(features="text"), r"features is no matrix"),
        (matlab(features=csc_matrix((1 << 20, 1 << 20))), r"features is no matrix of at most"),
        (lambda folder: folder / "no.data", r"the table cannot be read"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_row(make, said, tmp_path):
    path = make(tmp_path)
    with pytest.raises(InputError, match=said) as caught:
        read_bags(path)
    assert all(path.name in line and line.isprintable() for line in caught.value.problems)


def test_all_of_it_at_once(tmp_path):
    path = tmp_path / "set.data"
    path.write_text("a,1,x,1.\na,2,y,1.\nb,3,4,0.\nb,4,5,9.\n")
    with pytest.raises(InputError) as caught:
        read_bags(path)
    rows = [line.split(", ")[1].split(":")[0] for line in caught.value.problems]
    assert rows == ["row 1", "row 2", "row 4"]
