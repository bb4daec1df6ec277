"""Problems found while reading data: fields for the audit, a line for the user."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MAX_SHOWN = (
    20  # of a table in another format, or of a folder of damaged images, there are thousands
)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, a row or a folder of a cohort.

    `what` and `action` name no patient and quote no cell, so that anybody may read them. `private`
    is the cell, or the path, that is at fault.
    """

    path: Path  # a table or a folder
    where: str  # within it: "row 3, patient P1"; empty for all of it
    what: str
    action: str
    private: str | Path = ""

    def __str__(self) -> str:
        place = f"{self.path}, {self.where}" if self.where else str(self.path)
        shown = f" ({self.private})" if self.private else ""
        return f"{place}: {self.what}{shown}; {self.action}"


def shortened(problems: Iterable[object], noun: str = "problems") -> list[str]:
    """Return the first MAX_SHOWN problems as lines, and how many more there are."""
    lines = [str(problem) for problem in problems]
    rest = len(lines) - MAX_SHOWN
    return lines if rest <= 0 else [*lines[:MAX_SHOWN], f"... and {rest} more {noun}"]
