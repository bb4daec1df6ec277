"""The members of an ensemble: where they lie, and the mean of what they say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lymphoml.core.errors import InputError, listed, quoted
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.runs.run_folder import read_config
from lymphoml.runs.tables import AGAIN, read_columns

KEY = "ensemble"  # of config.yaml: the members' names
ROWS = ["patient", "fold"]
SUREST = 2.0**-24  # from 0 or 1, of a probability in single precision: a logit is finite


def mean_of_logits(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The first table, with the probability of the mean of all tables' logits.

    Tables have the columns patient, fold, label, probability, and the same patients and folds.
    """
    order = pd.MultiIndex.from_frame(tables[0][ROWS])
    columns = [table.set_index(ROWS)["probability"].loc[order].to_numpy(float) for table in tables]
    return tables[0].assign(probability=mean_probability(columns))


def mean_probability(probabilities: ArrayLike) -> np.ndarray:
    """That of the mean logit over the first axis; NaN where one is."""
    probability = np.clip(probabilities, SUREST, 1 - SUREST)
    logit = np.log(probability / (1 - probability)).mean(axis=0)
    return 1 / (1 + np.exp(-logit))


def member_names(run: Path) -> list[str]:
    """An ensemble's members, as its configuration names them; none of another run.

    Raises InputError for what is no name of a folder: it was perhaps sent, and could lead anywhere.
    """
    names = (read_config(run) or {}).get(KEY)
    if names is None:
        return []
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        raise InputError(
            f"run {run}: config.yaml: {KEY}={quoted(str(names), 60)}: allowed are the names of run "
            f"folders; make the ensemble again"
        )
    return names


def resolve_members(run: Path, given: Sequence[Path] = ()) -> list[Path]:
    """The run folders whose models speak for `run`: itself, or an ensemble's members.

    These lie beside the ensemble under the names that it knows, or are `given` in any order. Raises
    InputError where they do not, where one is an ensemble itself, and where what they said of
    their held-out patients is not what the ensemble was made of.
    """
    reject_symlinks(run)
    names = member_names(run)
    if not names:
        if given:
            raise InputError(f"members={listed(given)}: {run} is no ensemble; leave it out")
        return [run]
    members = [*given] or _beside(run, names)
    if len({member.resolve() for member in members}) < max(len(members), len(names)):
        raise InputError(
            f"members={listed(members)}: the ensemble {run} has {len(names)}, each once: "
            f"{', '.join(names)}"
        )
    known = _said(run)
    theirs = []
    for member in members:
        reject_symlinks(member)
        if member_names(member):
            raise InputError(
                f"member {member} is an ensemble itself; make {run} of runs that were trained"
            )
        theirs.append(_said(member))
        if not theirs[-1].index.equals(known.index):
            raise InputError(
                f"member {member}: has other patients or folds than the ensemble {run}; give "
                f"members=[A,B,...], or make the ensemble again"
            )
    if not np.allclose(mean_probability(theirs), known, rtol=0, atol=1e-9):
        raise InputError(
            f"run {run}: is the ensemble of other predictions than {listed(members)} hold; give "
            f"members=[A,B,...], or make the ensemble again"
        )
    return members


def _beside(run: Path, names: list[str]) -> list[Path]:
    members = [run.resolve().parent / name for name in names]
    for member in members:
        # A link beside it was perhaps sent with it.
        if names.count(member.name) > 1 or member.is_symlink() or not _is_run(member):
            raise InputError(
                f"run {run}: an ensemble whose member {member.name} does not lie beside it, as one "
                f"folder of this name; say where all of them lie, as members=[A,B,...]"
            )
    return members


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file()


def _is_name(name: object) -> bool:
    plain = isinstance(name, str) and name not in ("", "..") and Path(name).name == name
    return plain and len(str(name).encode()) < 256 and "\0" not in str(name)


def _said(run: Path) -> pd.Series:
    """Out-of-fold probabilities by patient and fold, each once, in the folds of `folds.csv`."""
    table = read_columns(run / "predictions.csv", (*ROWS, "label", "probability"))
    said = table.set_index(ROWS)["probability"].sort_index()
    folds = read_columns(run / "folds.csv", tuple(ROWS)).set_index(ROWS).sort_index()
    if not said.index.is_unique or not said.index.equals(folds.index):
        raise InputError(f"run {run}: predictions.csv tells of other rows than folds.csv; {AGAIN}")
    return said
