"""Problems found while reading data: fields for the audit, a line for the user."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lymphoml.core.errors import InputError

MAX_SHOWN = 20  # a table in another format, or a folder of damaged images, has thousands


class Place(NamedTuple):
    """A table or a folder, and where in it."""

    path: Path
    where: str = ""  # "row 3, patient P1"

    def __str__(self) -> str:
        return f"{self.path}, {self.where}" if self.where else str(self.path)


class Problem(NamedTuple):
    """`what` and `action` name no patient and quote no cell; `private` is the cell or path."""

    place: Place
    what: str
    action: str
    private: str | Path = ""

    def __str__(self) -> str:
        shown = f" ({self.private})" if self.private else ""
        return f"{self.place}: {self.what}{shown}; {self.action}"


class DataError(InputError):
    """A file or a folder of a cohort cannot be used: `found` is all that is wrong with it."""

    def __init__(self, *found: Problem):
        super().__init__(map(str, found))
        self.found = found


def shortened(problems: Iterable[object], noun: str = "problems") -> list[str]:
    """Return the first MAX_SHOWN problems as lines, and how many more there are."""
    lines = [str(problem) for problem in problems]
    rest = len(lines) - MAX_SHOWN
    return lines if rest <= 0 else [*lines[:MAX_SHOWN], f"... and {rest} more {noun}"]
