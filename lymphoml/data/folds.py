"""Folds: which patient is held out in which, stratified by label, records of a person together."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.seeding import keyed_generator, keyed_seed
from lymphoml.core.untrusted import read_csv
from lymphoml.data.settings import GROUPED, DataConfig


def count_groups(table: pd.DataFrame) -> pd.Series:
    """Return the persons with a record labelled 0, and 1: at most as many folds have both."""
    return table.groupby("label")["group"].nunique().reindex([0, 1], fill_value=0)


def make_folds(
    table: pd.DataFrame, folds: int, repeats: int, seed: int, grouped: bool = True
) -> pd.DataFrame:
    """Return `patient, fold`: fold `r * folds + k` is fold k of repeat r. Raises InputError.

    Not `grouped`, they are those of scikit-learn's KFold over the rows as they come, shuffled by
    `seed` + r: neither stratified by label nor grouped by person.
    """
    from sklearn.model_selection import KFold

    table = table.sort_index() if grouped else table
    groups = count_groups(table)
    most = groups.min() if grouped else len(table)
    if groups.min() < 2 or not 2 <= folds <= most:
        counts = f"{groups[0]} reactive and {groups[1]} tumoral people are labelled"
        advice = f"set data.folds to 2 to {most}{', so that each fold has both' * grouped}"
        if groups.min() < 2:
            advice = "training needs two of each; check data.label_column and data.label_values"
        raise InputError(f"data.folds={folds}: {counts}; {advice}")
    parts = []
    for repeat in range(repeats):
        fold = np.empty(len(table), dtype=int)
        splits = _held_out(table, folds, seed, "folds", repeat)
        if not grouped:
            plain = KFold(folds, shuffle=True, random_state=(seed + repeat) % 2**32)
            splits = (rows for _, rows in plain.split(table))
        for k, held_out in enumerate(splits):
            fold[held_out] = repeat * folds + k
        parts.append(pd.DataFrame({"patient": table.index, "fold": fold}))
    assignment = pd.concat(parts, ignore_index=True)
    if problems := [*_problems(assignment, table, folds, repeats, grouped)]:
        advice = "set data.folds lower, or data.folds_csv, since records of one person share a fold"
        if not grouped:
            advice = f"set another seed, or data.splitter={GROUPED}"
        raise InputError(f"data.folds: generated folds: {each}; {advice}" for each in problems)
    return assignment


def split_persons(folds: pd.DataFrame, groups: pd.Series, per_repeat: int) -> list[int]:
    """Return the persons, by patient in `groups`, with records in several folds of a repeat."""
    group, repeat = groups[folds["patient"]].to_numpy(), folds["fold"] // per_repeat
    count = folds["fold"].groupby([repeat, group]).nunique()
    return sorted({group for _, group in count.index[count > 1]})


def read_folds(
    path: Path, table: pd.DataFrame, folds: int, repeats: int, grouped: bool = True
) -> pd.DataFrame:
    """Return the user's own `patient,fold` file, with the properties of `make_folds`."""
    try:
        # Without na_filter, since NA is a name like any other.
        written = read_csv(path, dtype={"patient": str, "fold": int}, na_filter=False)
        assignment = written[["patient", "fold"]]
    except (OSError, ValueError, KeyError, UnicodeError, OverflowError) as error:
        raise InputError(
            f"fold file {path}: {one_line(error)}; it needs the columns patient,fold, a row a "
            f"patient, fold a whole number"
        ) from None
    if problems := [*_problems(assignment, table, folds, repeats, grouped)]:
        raise InputError(f"fold file {path}: {problem}" for problem in problems)
    return assignment


def split(folds: pd.DataFrame, fold: int, per_repeat: int) -> tuple[list[str], list[str]]:
    """Return the training and the held-out patients of `fold`, of its own repeat, sorted."""
    repeat = folds[folds["fold"] // per_repeat == fold // per_repeat]
    held_out = repeat["fold"] == fold
    return sorted(repeat["patient"][~held_out]), sorted(repeat["patient"][held_out])


def training_split(
    data: DataConfig, table: pd.DataFrame, folds: pd.DataFrame, fold: int, seed: int
) -> tuple[list[str], list[str]]:
    """Return the patients to train `fold` on and those held out, sorted. Raises InputError.

    Of `data.train_size`, whole persons are drawn, stratified by label: a person with several
    records may leave the draw short of it. A smaller draw is part of a larger one. The seed is
    that of the folds, `seed` unless `data.fold_seed` is given.
    """
    train, held_out = split(folds, fold, data.folds)
    if (size := data.train_size) is None:
        return train, held_out
    most = folds["patient"].nunique() - int(folds["fold"].value_counts().max())
    key = f"data.train_size={size}"
    if size > most:
        raise InputError(f"{key}: a fold has {most} training patients; set it to {most} or less")
    rows = table.loc[train]
    persons = rows.groupby("group")["label"].agg(["first", "size"])
    of_folds = seed if data.fold_seed is None else data.fold_seed
    order = keyed_generator(of_folds, "train size", fold).permutation(len(persons))
    sizes = persons.iloc[order].groupby("first")["size"]
    # Each label is spread evenly: it has its share of the first n, whatever n is.
    place = (sizes.cumsum() - persons["size"] / 2) / sizes.transform("sum")
    persons = persons.loc[place.sort_values(kind="stable").index]
    records = persons["size"].cumsum()
    drawn = rows[rows["group"].isin(persons.index[records <= size])]
    if drawn["label"].nunique() < 2:
        least = records[persons["first"] != persons["first"].iloc[0]].min()
        raise InputError(f"{key}: fold {fold} needs both labels; set it to {least} or more")
    return list(drawn.index), held_out


def inner_validation_split(table: pd.DataFrame, fraction: float, *keys: int | str) -> list[str]:
    """Return patients to validate on, of a fold's training patients: whole groups, stratified."""
    splits = max(2, round(1 / fraction))
    fewest = count_groups(table).min()
    if splits > fewest:
        raise InputError(
            f"data.inner_val_fraction={fraction}: with {fewest} people in the smaller class of a "
            f"fold's training patients, must be >= {1 / max(fewest, 2):.2f}"
        )
    return list(table.index[next(_held_out(table, splits, "inner", *keys))])


def _held_out(table: pd.DataFrame, folds: int, *keys: int | str) -> Iterator[np.ndarray]:
    """Yield the rows that each fold holds out: whole groups, stratified by label."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=keyed_seed(*keys) % 2**32)
    for _, rows in splitter.split(table, table["label"], table["group"]):
        yield rows


def _problems(
    assignment: pd.DataFrame, table: pd.DataFrame, folds: int, repeats: int, grouped: bool
) -> Iterator[str]:
    fold = assignment["fold"]
    invalid = sorted(set(fold) - set(range(folds * repeats)))
    yield from (f"fold {each} is not in 0 to {folds * repeats - 1}" for each in invalid)
    complete = not invalid
    for repeat in range(repeats):
        patients = assignment["patient"][fold // folds == repeat]
        for what, wrong in (
            ("is not a labelled patient of the cohort", set(patients) - set(table.index)),
            ("is in no fold", set(table.index) - set(patients)),
            ("is duplicated", set(patients[patients.duplicated()])),
        ):
            complete &= not wrong
            yield from (f"patient {each} {what} of repeat {repeat}" for each in sorted(wrong))
    if not complete:
        return
    for number in range(folds * repeats):
        train, held_out = (table["label"][ids] for ids in split(assignment, number, folds))
        if grouped and held_out.nunique() < 2:
            yield f"fold {number} needs reactive and tumoral patients"
        elif held_out.empty or train.nunique() < 2:
            what = "has no patient" if held_out.empty else "leaves one class to train on"
            yield f"fold {number} {what}"
    for group in split_persons(assignment, table["group"], folds) if grouped else ():
        person = table.index[table["group"] == group]
        yield (
            f"patients {', '.join(sorted(person))} are probably one person (data.person_column, or "
            f"birth date and sex), and must share a fold"
        )
