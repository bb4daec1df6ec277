"""What is told in a line each, without a traceback: the user's to mend, or the machine's fault."""

from collections.abc import Iterable
from pathlib import Path


class Told(Exception):
    """Every entry point prints its problems and exits with `code`.

    Each problem is one line that says what is wrong, where (file, row, patient), what is allowed
    and what to do. All problems found in one pass are reported together. What would break the line
    or steer a terminal is written out.
    """

    code: int

    def __init__(self, problems: str | Iterable[str]):
        given = (problems,) if isinstance(problems, str) else tuple(problems)
        self.problems = tuple(map(printable, given))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple:
        return type(self), (self.problems,), self.__dict__


class InputError(Told):
    """Something given to lymphoml is wrong, and the same command will fail again."""

    code = 2


class Failure(Told):
    """What was asked for is right, and the machine or the training gave out on the way.

    Everything earlier is intact; the same command goes on once the cause is gone.
    """

    code = 1


def one_line(error: BaseException) -> str:
    """What another library's exception says, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def listed(paths: Iterable[Path]) -> str:
    """As a command takes run folders: [A,B]."""
    return f"[{','.join(map(str, paths))}]"


def quoted(text: str, most: int) -> str:
    """What somebody wrote, in quotes, of at most so many characters and without half a date."""
    return repr(text if len(text) <= most else text[:most].rstrip("0123456789-/. ") + "...")


def printable(text: str) -> str:
    """In one line, with what would steer a terminal written out: an escape is \\x1b."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
