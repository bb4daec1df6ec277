"""Which patient is validated in which fold: stratified by label, records of one person together."""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.seeding import keyed_seed
from lymphoml.core.untrusted import read_bytes


def people(table: pd.DataFrame) -> pd.Series:
    """Persons with a record labelled 0, and 1; no more folds than the fewer can hold both."""
    return table.groupby("label")["group"].nunique().reindex([0, 1], fill_value=0)


def make_folds(table: pd.DataFrame, folds: int, repeats: int, seed: int) -> pd.DataFrame:
    """A row `patient, fold` for each labelled patient and repeat.

    Fold numbers run on over the repeats: fold `r * folds + k` is fold `k` of repeat `r`.
    The table has the patients' `label` (0 or 1) and `group`, and the order of its rows plays no
    part. Raises InputError where some fold would lack one of the classes.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    table = table.sort_index()
    groups_per_class = people(table)
    if not 2 <= folds <= groups_per_class.min():
        raise InputError(
            f"data.folds={folds}: with {groups_per_class[0]} reactive and {groups_per_class[1]} "
            f"tumoral people, 2 to {groups_per_class.min()} folds can hold both classes each"
        )
    parts = []
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(
            folds, shuffle=True, random_state=keyed_seed(seed, "folds", repeat) % 2**32
        )
        fold = np.empty(len(table), dtype=int)
        for k, (_, held_out) in enumerate(splitter.split(table, table["label"], table["group"])):
            fold[held_out] = repeat * folds + k
        parts.append(pd.DataFrame({"patient": table.index, "fold": fold}))
    assignment = pd.concat(parts, ignore_index=True)
    advice = "; set data.folds lower, or data.folds_csv, since records of one person share a fold"
    _check(assignment, table, folds, repeats, "data.folds: the generated folds", advice)
    return assignment


def read_folds(path: Path, table: pd.DataFrame, folds: int, repeats: int) -> pd.DataFrame:
    """The user's own `patient,fold` file, held to what `make_folds` promises."""
    try:
        # Without na_filter, since NA is a name like any other.
        content = io.BytesIO(read_bytes(path))
        written = pd.read_csv(content, dtype={"patient": str, "fold": int}, na_filter=False)
        assignment = written[["patient", "fold"]]
    except (OSError, ValueError, KeyError, UnicodeError, OverflowError) as error:
        raise InputError(
            f"fold file {path}: {one_line(error)}; it needs the columns patient,fold, "
            f"a row a patient, fold a whole number"
        ) from None
    _check(assignment, table, folds, repeats, f"fold file {path}")
    return assignment


def split(folds: pd.DataFrame, fold: int, per_repeat: int) -> tuple[list[str], list[str]]:
    """The patients that `fold` trains on, and those it holds out: of its own repeat, sorted."""
    repeat = folds[folds["fold"] // per_repeat == fold // per_repeat]
    held_out = repeat["fold"] == fold
    return sorted(repeat["patient"][~held_out]), sorted(repeat["patient"][held_out])


def inner_validation_split(table: pd.DataFrame, fraction: float, *keys: int | str) -> list[str]:
    """The patients to set apart from a fold's training patients: whole groups, stratified."""
    from sklearn.model_selection import StratifiedGroupKFold

    splits = max(2, round(1 / fraction))
    fewest = people(table).min()
    if splits > fewest:
        raise InputError(
            f"data.inner_val_fraction={fraction}: with {fewest} people in the smaller class of a "
            f"fold's training patients, allowed is {1 / max(fewest, 2):.2f} or more"
        )
    splitter = StratifiedGroupKFold(
        splits, shuffle=True, random_state=keyed_seed("inner", *keys) % 2**32
    )
    _, held_out = next(splitter.split(table, table["label"], table["group"]))
    return list(table.index[held_out])


def _check(
    assignment: pd.DataFrame,
    table: pd.DataFrame,
    folds: int,
    repeats: int,
    where: str,
    advice: str = "",
) -> None:
    """`advice` is what to do where a fold lacks a class."""
    problems = []
    fold = assignment["fold"]
    for number in sorted(set(fold) - set(range(folds * repeats))):
        problems.append(f"{where}: fold {number}, allowed are 0 to {folds * repeats - 1}")
    for repeat in range(repeats):
        patients = assignment["patient"][fold // folds == repeat]
        for patient in sorted(set(patients) - set(table.index)):
            problems.append(f"{where}: patient {patient} is not a labelled patient of the cohort")
        for patient in sorted(set(table.index) - set(patients)):
            problems.append(f"{where}: patient {patient} is in no fold of repeat {repeat}")
        for patient in sorted(patients[patients.duplicated()]):
            problems.append(f"{where}: patient {patient} stands in repeat {repeat} twice")
    if not problems:
        joined = assignment.join(table[["label", "group"]], on="patient")
        joined["repeat"] = joined["fold"] // folds
        for number in range(folds * repeats):
            if joined["label"][joined["fold"] == number].nunique() < 2:
                problems.append(
                    f"{where}: fold {number} needs reactive and tumoral patients{advice}"
                )
        apart = joined.groupby(["repeat", "group"])["fold"].nunique()
        for repeat, group in apart.index[apart > 1]:
            same = joined["patient"][(joined["group"] == group) & (joined["repeat"] == repeat)]
            problems.append(
                f"{where}: patients {', '.join(sorted(same))} have the same birth date and sex, "
                f"are probably one person, and must share a fold"
            )
    if problems:
        raise InputError(problems)
