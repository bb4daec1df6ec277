"""The one exception that is the user's to mend: told in a line each, without a traceback."""

from collections.abc import Iterable


class InputError(Exception):
    """Something given to lymphoml is wrong; every entry point prints it and exits with 2.

    Each problem is one line that says what is wrong, where (file, row, patient), what is allowed
    and what to do. All problems found in one pass are reported together. What would break the line
    or steer a terminal is written out.
    """

    def __init__(self, problems: str | Iterable[str]):
        given = (problems,) if isinstance(problems, str) else tuple(problems)
        self.problems = tuple(map(printable, given))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple:
        return InputError, (self.problems,)


def one_line(error: BaseException) -> str:
    """What another library's exception says, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def quoted(text: str, most: int) -> str:
    """What somebody wrote, in quotes, of at most so many characters and without half a date."""
    return repr(text if len(text) <= most else text[:most].rstrip("0123456789-/. ") + "...")


def printable(text: str) -> str:
    """In one line, with what would steer a terminal written out: an escape is \\x1b."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
