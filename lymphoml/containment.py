"""A run folder reaches no other place: a link in one that was sent would lead out of it."""

import os
import stat
from pathlib import Path

from lymphoml.errors import InputError
from lymphoml.foreign import harmless


def refuse_links(run: Path) -> None:
    """Raises InputError where something in `run` or a folder of its is a link, pipe or device.

    What is read through one is another's, what is written lands elsewhere. The run folder itself
    may be a link: its user named it.
    """
    if not harmless(run.name):
        raise InputError(f"run folder {run}: its name is a formula, or cannot be seen; rename it")
    if not run.is_dir():
        return
    for folder in (run, *(each for each in _entries(run) if _is_ours(each))):
        for entry in _entries(folder):
            if not _is_own(entry):
                raise InputError(
                    f"{entry}: a link, or no regular file; a run folder holds its own files"
                )


def _is_ours(path: Path) -> bool:
    """A tracker's folder may hold links; nothing of ours reads or writes there."""
    return path.is_dir() and not path.is_symlink() and path.name.startswith(("fold-", "test"))


def _is_own(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return True  # gone since, renamed by who trains another fold; or whoever needs it says why
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _entries(folder: Path) -> list[Path]:
    try:
        return [folder / name for name in sorted(os.listdir(folder))]
    except OSError:
        return []  # whoever needs it will say so
