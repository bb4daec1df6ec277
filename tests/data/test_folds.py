from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from lymphoml.core.errors import InputError
from lymphoml.data.folds import (
    inner_validation_split,
    make_folds,
    read_folds,
    split,
    training_split,
)


def test_folds_depend_on_the_seed_and_not_on_the_order_of_rows(patients, tmp_path):
    folds = make_folds(patients, folds=5, repeats=2, seed=1)
    first, second = (
        part.set_index("patient")["fold"] for _, part in folds.groupby(folds["fold"] // 5)
    )
    for part in (first, second - 5):
        assert sorted(part.index) == sorted(patients.index)
    assert not first.equals(second - 5)
    assert not folds.equals(make_folds(patients, 5, 2, seed=0))
    shuffled = patients.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(make_folds(shuffled, 5, 2, seed=1), folds)
    folds.to_csv(tmp_path / "folds.csv", index=False)  # one's own
    pd.testing.assert_frame_equal(read_folds(tmp_path / "folds.csv", patients, 5, 2), folds)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 8), st.integers(0, 2**40))
def test_folds_are_stratified_and_keep_people_together(count, seed):
    table = pd.DataFrame({"label": [0, 1, 1] * 15, "group": [*range(40), 0, 3, 6, 9, 12]})
    table.index = [f"P{number}" for number in range(len(table))]
    joined = make_folds(table, count, 1, seed).join(table, on="patient")
    assert joined.groupby("group")["fold"].nunique().max() == 1
    reactive = joined["fold"][joined["label"] == 0].value_counts()
    assert len(reactive) == count
    assert reactive.max() - reactive.min() <= 3


def test_a_split_takes_both_sides_from_the_folds_own_repeat():
    folds = pd.DataFrame({"patient": list("cabcab"), "fold": [0, 1, 0, 2, 2, 3]})
    assert split(folds, 0, per_repeat=2) == (["a"], ["b", "c"])
    assert split(folds, 3, per_repeat=2) == (["a", "c"], ["b"])


@pytest.mark.parametrize("count", [0, 1, 13])
def test_too_many_folds_are_refused_with_the_allowed_range(patients, count):
    with pytest.raises(InputError, match=r"set data.folds to 2 to 1[01]"):
        make_folds(patients, count, 1, 0)


def test_folds_that_grouping_leaves_without_a_class_are_refused_with_advice():
    """Two people have records of each class, and yet only one split of the three serves."""
    table = pd.DataFrame({"label": [0, 0, 1, 1, 1], "group": [2, 3, 1, 1, 3]}, index=[*"abcde"])
    with pytest.raises(InputError, match=r"reactive and tumoral patients; set data\.folds lower"):
        make_folds(table, 2, 1, 0)


@pytest.mark.parametrize(("spoil", "says"), [
    (lambda f, g: f.iloc[1:], "is in no fold"),
    (lambda f, g: pd.concat([f, f.iloc[:1]]), "is duplicated"),
    (lambda f, g: f.replace({"fold": {3: 9}}), "fold 9 is not in 0 to 3"),
    (lambda f, g: f.assign(patient=f["patient"].replace(f["patient"][0], "P999")), "P999"),
    (lambda f, g: f.rename(columns={"fold": "f"}), "columns patient,fold"),
    (lambda f, g: f.assign(fold="x"), "whole number"),
    (lambda f, g: f.assign(fold=(f["patient"].map(g["label"]))), "needs reactive and tumoral"),
])  # fmt: skip
def test_bad_fold_files_are_refused(patients, tmp_path, spoil, says):
    spoil(make_folds(patients, 4, 1, 0), patients).to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(InputError, match=says):
        read_folds(tmp_path / "f.csv", patients, 4, 1)


def test_a_folds_csv_that_splits_a_person_is_refused(patients, tmp_path):
    folds = make_folds(patients, 4, 1, 0, grouped=False)
    folds.to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(InputError, match="probably one person"):
        read_folds(tmp_path / "f.csv", patients, 4, 1)
    assert read_folds(tmp_path / "f.csv", patients, 4, 1, grouped=False).equals(folds)


def test_plain_folds_are_those_of_kfold_over_the_rows_as_they_come(patients):
    plain = [KFold(5, shuffle=True, random_state=seed).split(patients) for seed in (42, 43)]
    expected = [list(patients.index[rows]) for splits in plain for _, rows in splits]
    folds = make_folds(patients, 5, 2, seed=42, grouped=False)
    assert [list(ids) for _, ids in folds.groupby("fold")["patient"]] == expected


@pytest.mark.parametrize(("folds", "says"), [
    (5, "set data.folds to 2 to 4"), (2, "fold 0 leaves one class to train on; set another seed"),
])  # fmt: skip
def test_plain_folds_that_cannot_be_trained_on_are_refused(folds, says):
    table = pd.DataFrame({"label": [0, 0, 1, 1], "group": range(4)}, index=[*"abcd"])
    with pytest.raises(InputError, match=says):
        make_folds(table, folds, 1, 1, grouped=False)


def test_inner_split_is_stratified_keyed_and_about_the_fraction(patients):
    inner = inner_validation_split(patients, 0.25, 0, 2)
    assert inner == inner_validation_split(patients, 0.25, 0, 2)
    assert inner != inner_validation_split(patients, 0.25, 0, 3)
    assert 7 <= len(inner) <= 13
    assert patients.loc[inner, "label"].nunique() == 2


def draw(patients, size, seed=0):
    folds = make_folds(patients, 4, 2, 0)
    data = SimpleNamespace(folds=4, train_size=size, fold_seed=None)
    drawn, held_out = training_split(data, patients, folds, 5, seed)
    assert held_out == split(folds, 5, per_repeat=4)[1]
    return drawn


def test_a_draw_is_nested_stratified_and_of_whole_persons(patients):
    train, groups, smaller = draw(patients, None), patients["group"], set()
    assert train == split(make_folds(patients, 4, 2, 0), 5, per_repeat=4)[0]
    share = (patients["label"][train] == 0).mean()
    for size in range(5, 29):
        drawn = draw(patients, size)
        assert drawn == draw(patients.sample(frac=1, random_state=3), size)
        assert smaller <= set(drawn) <= set(train)
        assert size - 1 <= len(drawn) <= size  # the last person may have two records
        assert set(groups[drawn]).isdisjoint(groups[list(set(train) - set(drawn))])
        assert (patients["label"][drawn] == 0).sum() == pytest.approx(share * size, abs=1.8)
        smaller = set(drawn)
    assert draw(patients, 15) != draw(patients, 15, seed=1)


@pytest.mark.parametrize(("size", "says"), [
    (1, r"train_size=1: fold 5 needs both labels; set it to [23] or more"),
    (31, r"train_size=31: a fold has \d\d training patients; set it to \d\d or less"),
])  # fmt: skip
def test_a_draw_that_a_fold_cannot_give_is_refused_with_what_it_can(patients, size, says):
    with pytest.raises(InputError, match=says) as refused:
        draw(patients, size)
    draw(patients, int(str(refused.value).split("set it to ")[1].split()[0]))
