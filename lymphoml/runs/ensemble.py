"""An ensemble: a run folder without models, which names its members and their predictions."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lymphoml.core.errors import InputError, format_run_list, quoted
from lymphoml.core.untrusted import read_bytes, reject_symlinks
from lymphoml.runs.checksums import verify_checksums
from lymphoml.runs.run_folder import (
    ROW_KEYS,
    read_config,
    read_environment,
    read_folds_csv,
    row_keys,
)

ENSEMBLE = "ensemble"  # key of config.yaml: the members' names
DIGESTS = "member_predictions"  # key of environment.json: sha256 of each predictions.csv
MIN_PROBABILITY = 2.0**-24  # and 1 minus it: single precision's last before an infinite logit
REMAKE = "make the ensemble again"


def mean_of_logits(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the first table, with the probability of the mean of all tables' logits.

    Tables are those of `read_out_of_fold`, of the same patients and folds. A patient outside the
    training range of one lies outside.
    """
    rows = [tables[0][ROW_KEYS].merge(table, "left", ROW_KEYS) for table in tables]
    reasons = pd.concat([each["outside_range"] for each in rows], axis=1).max(axis=1)
    probability = mean_probability([each["probability"] for each in rows])
    return tables[0].assign(probability=probability, outside_range=reasons)


def mean_probability(probabilities: ArrayLike) -> np.ndarray:
    """Return that of the mean logit over the first axis; NaN where one is."""
    probability = np.clip(probabilities, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    logit = np.log(probability / (1 - probability)).mean(axis=0)
    return 1 / (1 + np.exp(-logit))


def predictions_digest(run: Path) -> str:
    """Return the sha256 of a run's out-of-fold predictions."""
    path = run / "predictions.csv"
    try:
        return sha256(read_bytes(path)).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def member_names(run: Path) -> list[str]:
    """Return an ensemble's members as its configuration names them; empty of another run.

    Raises InputError for what is not a folder's name: the file may have been sent, and a path
    could lead anywhere.
    """
    names = (read_config(run) or {}).get(ENSEMBLE)
    if names is None:
        return []
    if not isinstance(names, list) or not names or not all(map(_is_name, names)):
        raise InputError(
            f"run {run}: config.yaml: {ENSEMBLE}={quoted(str(names), 60)}: must be a list of names "
            f"of run folders; {REMAKE}"
        )
    return names


def resolve_members(run: Path, given: Sequence[Path] = ()) -> list[Path]:
    """Return the run folders whose models predict for `run`: itself, or an ensemble's members.

    These are siblings of the ensemble under the names that it stores, or `given` in any order.
    Raises InputError where a member is missing, was trained again since, or has other folds.
    """
    reject_symlinks(run)
    names = member_names(run)
    if not names:
        if given:
            raise InputError(
                f"members={format_run_list(given)}: {run} is not an ensemble. Leave it out."
            )
        return [run]
    verify_checksums(run)
    members = [*given] or [_sibling(run, name) for name in names]
    if len({member.resolve() for member in members}) < max(len(members), len(names)):
        raise InputError(
            f"members={format_run_list(members)}: the ensemble {run} has {len(names)}, each once: "
            f"{', '.join(names)}"
        )
    digests = read_environment(run).get(DIGESTS)
    if not isinstance(digests, list):
        raise InputError(f"run {run}: environment.json has no {DIGESTS}; {REMAKE}")
    for member in members:
        reject_symlinks(member)
        digest = predictions_digest(member)
        if digest not in digests:
            raise InputError(
                f"member {member}: its predictions.csv is not that of a member of {run}. Give "
                f"members=[A,B,...], or {REMAKE}."
            )
        digests.remove(digest)
        if row_keys(read_folds_csv(member)) != row_keys(read_folds_csv(run)):
            raise InputError(f"member {member}: folds.csv differs from that of {run}; {REMAKE}")
    return members


def _sibling(run: Path, name: str) -> Path:
    member = run.resolve().parent / name
    # A link among the siblings was perhaps sent with the ensemble.
    if member.is_symlink() or not (member / "config.yaml").is_file():
        raise InputError(
            f"run {run}: its member {name} is not in the same folder. Give members=[A,B,...]."
        )
    return member


def _is_name(name: object) -> bool:
    plain = isinstance(name, str) and name not in ("", "..") and Path(name).name == name
    return plain and len(str(name).encode()) < 256 and "\0" not in str(name)
