import numpy as np
import pytest

from lymphoml.data.mil_table import read_bag_features, read_bags
from lymphoml.data.problems import DataError
from tests.data.mil_files import SUFFIXES, draw_mil_bags, write_mil_bags

CSV = "bag,label,instance,x,y\n"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_bags(suffix, tmp_path):
    bags = draw_mil_bags(8)
    found = read_bags(write_mil_bags(tmp_path / f"set{suffix}", bags))
    assert list(found.table["id"]) == list(bags)
    assert list(found.table["label"]) == [str(label) for label, _ in bags.values()]
    for bag, (_, features) in bags.items():
        assert found.features[bag].dtype == np.float32
        assert found.features[bag] == pytest.approx(features, abs=1e-6)
        assert len(found.images[bag]) == len(features)


def test_rows_of_a_bag_may_be_scattered_and_blank_rows_are_skipped(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text(CSV + "MUSK-1,1,a+1,42,-198\n\nNON-MUSK-2,-1,b,7,3\nMUSK-1,+1,c.2,1,2e0\n")
    found = read_bags(path)
    assert found.table["id"].to_dict() == {2: "MUSK-1", 4: "NON-MUSK-2"}
    assert found.table["label"].tolist() == ["1", "0"]
    assert [image.name for image in found.images["MUSK-1"]] == ["a+1", "c.2"]
    assert found.features["MUSK-1"].tolist() == [[42, -198], [1, 2]]


def test_the_digest_depends_on_every_number_and_on_where_a_bag_ends(tmp_path):
    def key(*lines):
        path = tmp_path / "set.csv"
        path.write_text(CSV + "\n".join(lines))
        return read_bag_features(path, read_bags(path).images)[1]

    first = key("a,1,1,5,6", "b,0,2,7,8")
    assert first == key("a,1,one,5,6", "b,-1,2,7,8")  # names and labels are no features
    assert first != key("a,1,1,5,6", "b,0,2,7,8.5")
    assert first != key("a,1,1,5,6", "a,1,2,7,8")


def arrays(**changes):
    good = {"features": np.eye(3), "bag": [1, 1, 2], "label": [1, 1, -1]} | changes
    return {key: value for key, value in good.items() if value is not None}


@pytest.mark.parametrize(("content", "where", "what"), [
    (CSV + "a,1,1,many,2", "row 2", "not a number"),
    (CSV + "a,1,1,1_0,2", "row 2", "not a number"),
    (CSV + "a,1,1,1", "row 2", "4 cells"),
    (CSV + "a,2,1,1,2", "row 2", "label"),
    (CSV + "a,1,1,1,2\n\na,0,2,1,2", "row 2", "both labels"),
    (CSV + "a,1,1,1,2\na,1,1,1,2", "row 3", "duplicated"),
    (CSV + "=a,1,1,1,2", "row 2", "bag"),
    (CSV + "a,1,../1,1,2", "row 2", "instance"),
    (CSV + "a,1,1,1,1e99", "row 2", "not finite"),
    ("bag,class,x\na,1,1", "row 1", "no column label"),
    ("bag,label,x,x\na,1,1,1", "", "duplicated"),
    ("bag,label\n1,0\n", "", "1 instances of 0 features"),
    (",bag,label,x\n0,a,1,1", "", "is no feature"),
    ("bag,label,Unnamed: 0,x\na,1,0,1", "", "is no feature"),
    ("bag,label,=x\na,1,0", "", "is a formula"),
    ("", "row 1", "empty"),
    (b"\xff\xfe", "row 1", "UTF-8"),
    (None, "", "cannot be read"),
    (arrays(label=None), "", "label"),
    (arrays(label=[1, 0]), "", "length"),
    (arrays(label=[1, -1, -1]), "row 1", "both labels"),
    (arrays(features=np.full((3, 2), np.nan)), "row 1", "not finite"),
    (arrays(features=np.array(["a"])), "", "features"),
    (arrays(bag=np.array([{}, 1, 2], object)), "", "pickle"),
])  # fmt: skip
def test_what_is_wrong_is_named_with_its_row(content, where, what, tmp_path):
    path = tmp_path / ("set.npz" if isinstance(content, dict) else "set.csv")
    if isinstance(content, dict):
        np.savez(path, **content)
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_bags(path)
    problem = caught.value.found[0]
    assert problem.place.where == where
    assert what in problem.what
    assert problem.place.path == path
    assert str(problem).isprintable()


def test_every_row_is_checked_at_once(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text(CSV + "a,1,1,x,1\na,1,2,y,1\nb,0,3,4,0\nb,0,4,z,5\n")
    with pytest.raises(DataError) as caught:
        read_bags(path)
    assert [each.place.where for each in caught.value.found] == ["row 2", "row 3", "row 5"]
