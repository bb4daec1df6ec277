"""A fold's folder: where it is, whether it is finished, and which process trains it."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lymphoml.core.cluster import was_requeued
from lymphoml.core.errors import InputError
from lymphoml.core.files import remove_stale_temp_files, with_filename

LOCK_RETRY_S = 0.5  # a killed process holds its locks until the kernel has removed it


def fold_folder(run: Path, fold: int) -> Path:
    return run / f"fold-{fold}"


def is_done(run: Path, fold: int) -> bool:
    return (fold_folder(run, fold) / "done.json").exists()


def lock_path(run: Path, fold: int) -> Path:
    return run / f".fold-{fold}.lock"  # not in the fold's folder, which a refused run does not make


def is_locked(run: Path, fold: int) -> bool:
    """Return whether a process of this machine trains the fold now; the lock stays as it is."""
    try:
        with lock_path(run, fold).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def fold_lock(run: Path, fold: int) -> Iterator[Path]:
    """Yield the fold's folder, locked for this process, which may hold it already.

    The kernel frees the lock of a process that dies. A requeued job waits for what may be left of
    itself. Raises InputError naming the process that holds it.
    """
    path = lock_path(run, fold)
    lock = FileLock(path, timeout=LOCK_RETRY_S, is_singleton=True)
    if lock.is_locked:
        yield fold_folder(run, fold)
        return
    run.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire()
    except Timeout:
        locked = f"fold {fold} of {run} is locked by {_holder(path)}"
        if not was_requeued():
            raise InputError(f"{locked}. Wait for it, or stop it.") from None
        print(f"{locked}; this requeued job waits for it", flush=True)
        lock.acquire(timeout=-1)
    try:
        with with_filename(path):
            path.write_text(f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        remove_stale_temp_files(fold_folder(run, fold))
        yield fold_folder(run, fold)
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def _holder(path: Path) -> str:
    """What each holder writes into the file first of all."""
    return (path.read_text() if path.exists() else "") or "another process"
