"""Errors that a user can act on: each problem in one line, without a traceback."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from shutil import disk_usage

from rich.filesize import decimal

RESUME = "then rerun the same command to resume"
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
ADVICE = {
    errno.EFBIG: "is larger than this account may write (ulimit -f); raise the limit",
    errno.EROFS: "is on a read-only file system; make it writable",
    errno.EACCES: "permission denied; give this account access",
    errno.EPERM: "operation not permitted; give this account access",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "too many open files on this machine; close some",
    errno.EIO: "the disk failed (input/output error); check it",
    errno.ESTALE: "the network disk lost the file; check it",
    errno.ENOENT: "it or its folder was removed meanwhile; restore it",
}
SEVERAL_DEVICES = ("trainer.devices", "trainer.num_nodes", "trainer.strategy")  # of Lightning
SHARED_MEMORY = Path("/dev/shm")
OUT_OF_MEMORY = re.compile(r"out of memory|(can't|Cannot) allocate memory|Unable to allocate")
USE_LESS_MEMORY = "set trainer.encoder_chunk_size, data.train_bag_size or a smaller data.batch_size"


class UserFacingError(Exception):
    """Problems, a line each: what, where and how to fix it; entry points exit with `code`."""

    code: int

    def __init__(self, problems: str | Iterable[str]):
        given = (problems,) if isinstance(problems, str) else tuple(problems)
        self.problems = tuple(map(printable, given))
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple:
        return type(self), (self.problems,), self.__dict__


class InputError(UserFacingError):
    """Bad input: the same command will fail again."""

    code = 2


class RuntimeFailure(UserFacingError):
    """The machine or the training gave out: the same command resumes once the cause is gone."""

    code = 1


def one_line(error: BaseException) -> str:
    """Return another library's message without its line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def format_run_list(paths: Iterable[Path]) -> str:
    """Return run folders as a command takes them: [A,B]."""
    return f"[{','.join(map(str, paths))}]"


def quoted(text: str, longest: int) -> str:
    """Return a user's text in quotes, cut to `longest` characters and never within a date."""
    cut = text[:longest].rstrip("0123456789-/. ") + "..."
    return repr(text if len(text) <= longest else cut)


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Return the line about a key that does not exist, with the nearest one that does."""
    if key in SEVERAL_DEVICES:
        return (
            f"{key}: no such key; a training uses one device, and folds are trained side by side: "
            f"-m fold=0,1,2 (docs/clusters.md)"
        )
    nearest = get_close_matches(key, list(known), 1, cutoff=0)
    return f"{key}: no such key" + "".join(f"; the nearest is {each}" for each in nearest)


def printable(text: str) -> str:
    """Return the text in one line; what would steer a terminal is written out, as \\x1b."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def cache_error(what: str, error: OSError, size: str = "") -> UserFacingError:
    """Return the error for `what` that cannot be written to `data.cache`."""
    of_machine = DISK_FULL | ADVICE.keys() - {errno.ENOENT}
    kind = RuntimeFailure if error.errno in of_machine else InputError
    room = f"it needs {size}: make room" if size else "make room"
    return kind(f"{what} cannot be written ({error.strerror}); {room}, or set data.cache=DIR")


def as_user_error(error: BaseException) -> UserFacingError | None:
    """Return the error in lines for the user; None where only a programmer can understand it."""
    text, number = _original(error)
    if isinstance(error, UserFacingError):
        return type(error)(text) if text != str(error) else error
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return RuntimeFailure(f"not enough memory ({_short(text)}); {USE_LESS_MEMORY}, {RESUME}")
    if "iter(combined_loader)" in text and error.__context__:  # Lightning's, for another one
        return as_user_error(error.__context__)
    if isinstance(error, OSError):
        return _os_error(number, error.filename, text)
    if not isinstance(error, RuntimeError):
        return None
    return _launcher_error(error) or _torch_error(f"{error.__cause__} {text}")


def _os_error(number: int | None, filename: object, text: str) -> RuntimeFailure | None:
    if number in DISK_FULL:
        if not filename and SHARED_MEMORY.is_dir() and disk_usage(SHARED_MEMORY).free < 2**20:
            return _shared_memory_error()
        name, free = "", ""
        if filename:
            parents = Path(str(filename)).absolute().parents
            usage = disk_usage(next(each for each in parents if each.is_dir()))
            name, free = f"{filename}: ", f", {decimal(usage.free)} free"
        return RuntimeFailure(f"{name}no space left on the disk{free}; make room, {RESUME}")
    if number not in ADVICE or (number == errno.ENOENT and not filename):
        return None
    return RuntimeFailure(f"{filename or _short(text)}: {ADVICE[number]}, {RESUME}")


def _launcher_error(error: RuntimeError) -> UserFacingError | None:
    """Return why submitit could not submit a job, or has no result of one."""
    text, *trace = re.split(r"\n-{9,}\n", str(error).strip())
    if "submitit" not in type(error).__module__:
        missing = InputError("srun is not on PATH: this launcher needs SLURM")
        return missing if 'Could not detect "srun"' in text else None
    reason = trace[0].splitlines()[-1] if len(trace) == 2 else " ".join(text.splitlines()[:2])
    if reason.startswith("sbatch: "):
        return InputError(reason)
    return RuntimeFailure(f"{reason}; the logs are in runs/NAME/slurm. Remove the cause, {RESUME}")


def _shared_memory_error() -> RuntimeFailure:
    usage = disk_usage(SHARED_MEMORY)
    return RuntimeFailure(
        f"{SHARED_MEMORY} ({decimal(usage.total)}, {decimal(usage.free)} free) is too small for "
        f"the batches of loader workers; enlarge it (docker run --shm-size=1g), or set "
        f"data.num_workers=0, {RESUME}"
    )


def _torch_error(text: str) -> UserFacingError | None:
    if "shared memory(shm)" in text:
        return _shared_memory_error()
    if died := re.search(r"killed by signal: (\w+( \w+)?)|exited unexpectedly", text):
        signal = f" ({died[1]})" if died[1] else ""
        return RuntimeFailure(
            f"a loader worker died{signal}, usually from too little memory or shared memory "
            f"(/dev/shm); set fewer data.num_workers if it happens again, {RESUME}"
        )
    if hung := re.search(r"timed out after ([\d.]+) seconds", text):
        return RuntimeFailure(
            f"a loader worker returned nothing for {float(hung[1]):g} seconds: it or the disk "
            f"hangs; set data.timeout higher if the bags are that large, {RESUME}"
        )
    if "loading state_dict" in text or "loaded state dict" in text:
        return InputError(
            "the checkpoint does not fit this configuration's model or optimiser; use the run's "
            "own configuration, or another name=..."
        )
    return None


def _original(error: BaseException) -> tuple[str, int | None]:
    """Return message and errno, also of a loader worker's error that torch wraps."""
    text, number = str(error), getattr(error, "errno", None)
    if text.startswith("Caught ") and "DataLoader worker process" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
        if found := re.match(r"\[Errno (\d+)\]", text):
            number = int(found[1])
    return text, number


def _short(text: str) -> str:
    return " ".join(text.split())[:160] or "MemoryError"
