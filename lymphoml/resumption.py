"""Where a fold goes on: from its last checkpoint, else the one before, never silently anew."""

import os
from pathlib import Path
from typing import NamedTuple

from lymphoml.checkpoint import LAST, PREVIOUS, afresh, damage, load_checkpoint, vouch_for
from lymphoml.errors import InputError


class Start(NamedTuple):
    checkpoint: Path | None  # None: from the start
    told: str | None  # what the user should know: what is damaged, what is lost


def starting_point(folder: Path, fold: int) -> Start:
    """Of the fold in `folder`. A damaged `last.ckpt` gives way to `previous.ckpt`.

    Raises InputError where epochs were trained and no good checkpoint is left of them.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    problem = damage(last)
    if problem is None:
        return Start(last, None)
    if not last.exists() and not previous.exists():
        return _without_checkpoint(folder, fold)
    if older := damage(previous):
        raise InputError(f"fold {fold}: {last} {problem}, and {PREVIOUS} {older}; {afresh(folder)}")
    epoch = load_checkpoint(previous)["epoch"] + 1
    _take_place(previous, last)
    return Start(
        last, f"fold {fold}: {last} {problem}; going on from {PREVIOUS}, the end of epoch {epoch}"
    )


def _without_checkpoint(folder: Path, fold: int) -> Start:
    """History comes before its epoch's checkpoint: of one row none need have been lost."""
    history = folder / "history.csv"
    epochs = len(history.read_text().splitlines()) - 1 if history.exists() else 0
    if epochs > 1:
        raise InputError(
            f"fold {fold}: {history} tells of {epochs} epochs, and {LAST} and {PREVIOUS} are "
            f"missing; {afresh(folder)}"
        )
    lost = f"fold {fold}: stopped before {LAST} was first written; it begins anew"
    return Start(None, lost if epochs else None)


def _take_place(previous: Path, last: Path) -> None:
    """Of the damaged one: the next epoch's end must not move it over the good one."""
    vouch_for(previous, last)
    os.replace(previous, last)
