"""A fold's folder: where it is, whether it is finished, and which process trains it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lymphoml.core.errors import InputError
from lymphoml.core.files import naming, remove_stale_temp_files

DYING = 0.5  # seconds that the workers of a killed process may still hold its locks

_held: set[Path] = set()  # by this process


def fold_folder(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold}"


def is_done(folder: Path, fold: int) -> bool:
    return (fold_folder(folder, fold) / "done.json").exists()


@contextmanager
def fold_lock(folder: Path, fold: int) -> Iterator[Path]:
    """The fold's own folder, for this process alone; it may hold it already.

    The system frees the lock of a process that dies. A record lock of POSIX, not flock's: forked
    loader workers would inherit that one, and keep it for a killed parent. Raises InputError
    naming the process that holds it. A run that was not begun meanwhile is left without a trace.
    """
    path = fold_folder(folder, fold)
    lock = (path / ".lock").resolve()
    if lock in _held:
        yield path
        return
    descriptor = _acquire(lock)
    if descriptor is None:
        raise InputError(
            f"fold {fold} of {folder} is taken by {_holder(lock)}; wait for it, or stop it"
        )
    _held.add(lock)
    try:
        remove_stale_temp_files(path)
        yield path
    finally:
        os.ftruncate(descriptor, 0)
        if not (folder / "config.yaml").exists():
            lock.unlink(missing_ok=True)
            if not any(path.iterdir()):
                path.rmdir()
        _held.discard(lock)
        os.close(descriptor)


def _acquire(lock: Path) -> int | None:
    """A descriptor that holds the lock, and tells in its file whose it is; None: somebody else."""
    until = time.monotonic() + DYING
    while time.monotonic() < until:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder of a refused run, removed this moment
            continue
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == lock.stat().st_ino:
                _sign(lock, descriptor)
                return descriptor
        except (BlockingIOError, PermissionError, FileNotFoundError):
            pass  # held, or removed by whoever held it
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.05)
    return None


def _sign(lock: Path, descriptor: int) -> None:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    with naming(lock):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} since {since}".encode())


def _holder(lock: Path) -> str:
    """What the file tells, which every holder writes first of all."""
    try:
        return lock.read_text() or "another process"
    except FileNotFoundError:
        return "another process"
