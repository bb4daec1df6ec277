"""The members of an ensemble: where they lie, and the mean of what they say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lymphoml.containment import refuse_links
from lymphoml.errors import InputError
from lymphoml.runs import read_config, read_table

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


def find_members(run: Path, given: Sequence[Path] = ()) -> list[Path]:
    """The run folders whose models speak for `run`: itself, or an ensemble's members.

    These lie beside the ensemble under the names that it knows, or are `given` in any order. Raises
    InputError where they do not, where one is an ensemble itself, and where what they said of
    their held-out patients is not what the ensemble was made of.
    """
    refuse_links(run)
    names = (read_config(run) or {}).get(KEY)
    if not names:
        if given:
            raise InputError(f"members={_listed(given)}: {run} is no ensemble; leave it out")
        return [run]
    members = [*given] or _beside(run, names)
    if len({member.resolve() for member in members}) < max(len(members), len(names)):
        raise InputError(
            f"members={_listed(members)}: the ensemble {run} has {len(names)}, each once: "
            f"{', '.join(names)}"
        )
    for member in members:
        refuse_links(member)
        if (read_config(member) or {}).get(KEY):
            raise InputError(
                f"member {member} is an ensemble itself; make {run} of runs that were trained"
            )
    theirs = mean_of_logits([read_table(each / "predictions.csv") for each in members])
    ours = read_table(run / "predictions.csv")
    said, known = (table.set_index(ROWS)["probability"].sort_index() for table in (theirs, ours))
    if not (said.index.equals(known.index) and np.allclose(said, known, rtol=0, atol=1e-9)):
        raise InputError(
            f"run {run}: is the ensemble of other predictions than {_listed(members)} hold; give "
            f"members=[A,B,...], or make the ensemble again"
        )
    return members


def _beside(run: Path, names: list[str]) -> list[Path]:
    members = []
    for name in names:
        # A name that was sent with a run folder could lead anywhere.
        if not isinstance(name, str) or Path(name).name != name or name == "..":
            raise InputError(
                f"run {run}: its config.yaml names a member {name!r}, no folder's name"
            )
        members.append(run.resolve().parent / name)
        if not (members[-1] / "config.yaml").is_file():
            raise InputError(
                f"run {run}: an ensemble whose member {name} does not lie beside it; say where all "
                f"of them lie, as members=[A,B,...]"
            )
    return members


def _listed(paths: Sequence[Path]) -> str:
    return f"[{','.join(map(str, paths))}]"
