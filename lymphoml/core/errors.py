"""Errors that are printed as one line, without a traceback: invalid input, or a failed resource."""

import errno
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from rich.filesize import decimal


class UserFacingError(Exception):
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


class InputError(UserFacingError):
    """Something given to lymphoml is wrong, and the same command will fail again."""

    code = 2


class RuntimeFailure(UserFacingError):
    """What was asked for is right, and the machine or the training gave out on the way.

    Everything earlier is intact; the same command goes on once the cause is gone.
    """

    code = 1


def one_line(error: BaseException) -> str:
    """What another library's exception says, without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def format_run_list(paths: Iterable[Path]) -> str:
    """As a command takes run folders: [A,B]."""
    return f"[{','.join(map(str, paths))}]"


def quoted(text: str, most: int) -> str:
    """What somebody wrote, in quotes, of at most so many characters and without half a date."""
    return repr(text if len(text) <= most else text[:most].rstrip("0123456789-/. ") + "...")


def printable(text: str) -> str:
    """In one line, with what would steer a terminal written out: an escape is \\x1b."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


# What a machine that gives out says, in one line: which file, how much is free, what to do.

AGAIN = "then rerun the same command to resume"
FULL = {errno.ENOSPC, errno.EDQUOT}
SYSTEM = {
    errno.EFBIG: f"is larger than this account may write (ulimit -f); raise the limit, {AGAIN}",
    errno.EROFS: f"lies on a read-only file system; make it writable, {AGAIN}",
    errno.EACCES: f"permission denied; give this account the right to it, {AGAIN}",
    errno.EPERM: f"operation not permitted; give this account the right to it, {AGAIN}",
    errno.EMFILE: f"too many open files; raise the limit (ulimit -n), {AGAIN}",
    errno.ENFILE: f"too many open files on this machine; close some, {AGAIN}",
    errno.EIO: f"the disk failed (input/output error); look after it, {AGAIN}",
    errno.ESTALE: f"the network disk has lost the file; {AGAIN}",
    errno.ENOENT: f"it or its folder was removed meanwhile; {AGAIN}",
}
MACHINE = FULL | SYSTEM.keys() - {errno.ENOENT}
LESS = "set trainer.encoder_chunk_size, data.train_bag_size or fewer data.batch_size"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory",
                 "Unable to allocate")  # fmt: skip


def cache_refusal(what: str, error: OSError, need: str = "") -> UserFacingError:
    """For `what` in `data.cache`, of size `need`; a RuntimeFailure where the machine gave out."""
    kind = RuntimeFailure if error.errno in MACHINE else InputError
    room = f"it needs {need}: make room" if need else "make room"
    return kind(
        f"{what} cannot be written ({error.strerror}); {room}, or set data.cache=DIR to another "
        f"folder"
    )


def as_user_error(error: BaseException) -> UserFacingError | None:
    """The error as lines for the user; None where only a programmer can make sense of it."""
    text, number = _original(error)
    if isinstance(error, UserFacingError):
        return type(error)(text) if text != str(error) else error
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return RuntimeFailure(f"not enough memory ({_short(text)}); {LESS}, {AGAIN}")
    if isinstance(error, OSError):
        return _of_system(number, error.filename, text)
    if isinstance(error, RuntimeError):
        return _of_loader(f"{error.__cause__} {text}")
    return None


def _of_system(number: int | None, filename: object, text: str) -> RuntimeFailure | None:
    name = f"{filename}: " if filename else ""
    if number in FULL:
        free = f", {decimal(_free(Path(str(filename))))} free" if filename else ""
        return RuntimeFailure(f"{name}no space left on the disk{free}; make room, {AGAIN}")
    if number == errno.ENOENT and not filename:
        return None
    return (
        RuntimeFailure(f"{name or f'{_short(text)}: '}{SYSTEM[number]}")
        if number in SYSTEM
        else None
    )


def _of_loader(text: str) -> UserFacingError | None:
    if died := re.search(r"killed by signal: (\w+( \w+)?)|exited unexpectedly", text):
        signal = f" ({died[1]})" if died[1] else ""
        return RuntimeFailure(
            f"a loader worker died{signal}, most often of too little memory or shared memory "
            f"(/dev/shm); set fewer data.num_workers if it comes again, {AGAIN}"
        )
    if hung := re.search(r"timed out after ([\d.]+) seconds", text):
        return RuntimeFailure(
            f"a loader worker gave nothing for {float(hung[1]):g} seconds: it hangs, or the disk "
            f"does; set data.timeout higher if the bags are that large, {AGAIN}"
        )
    if "loading state_dict" in text or "loaded state dict" in text:
        return InputError(
            "its checkpoint does not fit this configuration's model or optimiser; give the "
            "configuration that it was begun with, or choose another name=..."
        )
    return None


def _original(error: BaseException) -> tuple[str, int | None]:
    """What was said and its errno; also where torch wraps a worker's error in its traceback."""
    text, number = str(error), getattr(error, "errno", None)
    if text.startswith("Caught ") and "DataLoader worker process" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
        found = re.match(r"\[Errno (\d+)\]", text)
        number = int(found[1]) if found else number
    return text, number


def _free(path: Path) -> int:
    folder = next(each for each in path.absolute().parents if each.is_dir())
    return shutil.disk_usage(folder).free


def _short(text: str) -> str:
    return one_line(MemoryError(text))[:160]
