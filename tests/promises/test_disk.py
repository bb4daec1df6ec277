"""Full disks and failing file operations

`python -m tests.promises.test_disk COHORT DISK KIBIBYTES [WORDS...]` does a job on a tmpfs that
grows after each failure, prints the lines of every failure, and copies the run beside the disk.
"""

import errno
import io
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from itertools import cycle
from pathlib import Path

import pytest
import torch

from lymphoml.cli.entry import run_cli
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data.decoding import WHOLE
from lymphoml.data.image_store import read_images
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, ROOT, configuration, outcome, predict, two_trees

slow = pytest.mark.slow
SHORT = ["trainer.max_epochs=2", "logger.tensorboard=true"]
AGAIN = "rerun the same command to resume"
EVERY = ("mkdir", "mkstemp", "save", "fsync", "replace")
FILES = {"last.ckpt", "last.ckpt.sha256", "history.csv", "done.json", "predictions.csv",
         "metrics.json", "config.yaml", "environment.json", "folds.csv", "triage.json",
         "submission.csv", "report.html", "tensorboard", "trained_on.json"}  # fmt: skip
MOUNT = 'mount -t tmpfs -o size=4k none "$0" && exec "$@"'


def attempt(config, run):
    """Train, and all that a user does with a run; return the exit code and the line of error."""

    def whole_job():
        cross_validate(config, run)
        main(["triage", f"run={run}", "sensitivity=0.5"])
        predict(config, run)
        main(["report", f"run={run}", "thumbnails=false"])

    error = io.StringIO()
    try:
        with redirect_stderr(error), redirect_stdout(io.StringIO()):
            run_cli(whole_job)
    except SystemExit as left:
        return int(left.code or 0), error.getvalue().strip()
    return 0, ""


def check_whole(folder):
    """Check that nothing has its final name and is empty."""
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".csv", ".yaml", ".html", ".npy") and path.name[0] != ".":
            assert path.stat().st_size, path


def fail_once(patch, folder, errors, by_name, operations, names):
    """Let these operations fail once on every file of a run, or of `names`; return what failed.

    Each failure is the next of the errors.
    """
    met, numbers = set(), cycle(errors)

    def failing(operation, name, target):
        named = name in ("mkdir", "mkstemp", "replace")  # the others know no name

        def call(*args, **options):
            path = Path(target(*args, **options))
            if path.name.startswith("."):  # a temporary file
                path = path.with_name(path.name.split(".", 1)[1].rpartition(".")[0])
            fault = name, path.name if by_name else str(path)
            counts = (names is None or path.name in names) and folder in path.parents
            if counts and fault not in met:
                met.add(fault)
                number = next(numbers)
                raise OSError(number, os.strerror(number), *[str(path)] * named)
            return operation(*args, **options)

        return call

    for module, name, target in (
        (os, "mkdir", lambda path, *_: path),
        (os, "replace", lambda _, path: path),
        (os, "fsync", lambda handle: os.readlink(f"/proc/self/fd/{handle}")),
        (tempfile, "mkstemp", lambda dir, prefix: f"{dir}/{prefix}"),
        (torch, "save", lambda _, file: file.name),
    ):
        if name in operations:
            patch.setattr(module, name, failing(getattr(module, name), name, target))
    return met


OTHERS = [errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO]


@pytest.mark.parametrize(("errors", "by_name", "operations", "names"), [
    pytest.param([errno.ENOSPC], True, ("fsync",), {"last.ckpt", "metrics.json", "submission.csv"},
                 id="disk full, a few files"),
    pytest.param([errno.ENOSPC], False, EVERY, None, id="disk full, every fold", marks=slow),
    pytest.param(OTHERS, True, EVERY, None, id="others", marks=slow),
])  # fmt: skip
@pytest.mark.timeout(1200)
def test_every_file_operation_fails_once(
    configured, tmp_path, monkeypatch, errors, by_name, operations, names
):
    """every file operation on every file of training, predicting, triage and the report fails
    once: disk full, quota, read-only, permission, open files, input/output → one line with the
    file and what to do, exit code 1; every file is whole, and the same commands then end in the
    same bytes"""
    config, run, whole = configured(*CLINICAL, *SHORT), tmp_path / "run", tmp_path / "whole"
    assert attempt(config, whole)[0] == 0
    met, failures = fail_once(monkeypatch, run, errors, by_name, operations, names), 0
    while (ended := attempt(config, run))[0]:
        code, line = ended
        assert code == 1, line
        assert line.startswith("error: ")
        assert "\n" not in line
        assert str(run) in line
        assert AGAIN in line
        check_whole(run)
        failures += 1
    assert failures == len(met)
    assert (names or FILES) <= {Path(path).name for _, path in met}
    assert outcome(run) == outcome(whole)
    assert not list(run.rglob(".*.*.*"))  # no temporary file


@slow
@pytest.mark.skipif(not shutil.which("unshare"), reason="only Linux mounts a disk for every user")
@pytest.mark.parametrize(("step", "words"), [
    pytest.param(4, [*CLINICAL, *SHORT], id="4 KiB"), pytest.param(64, SHORT, id="with images"),
])  # fmt: skip
@pytest.mark.timeout(1200)
def test_a_disk_that_is_full(configured, cohort, tmp_path, step, words):
    """a real file system (tmpfs) is full, and grows by a few KiB after every failure until all fits
    → each time one line with the file, exit code 1, all earlier files intact; in the end the same
    bytes"""
    disk = tmp_path / "disk"
    disk.mkdir()
    python = [sys.executable, "-m", "tests.promises.test_disk", cohort, disk, str(step), *words]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT, disk, *python], cwd=ROOT, capture_output=True,
        text=True,
    )  # fmt: skip
    if done.stderr.startswith(("unshare:", "mount:")):
        pytest.skip(f"no disk of a chosen size can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    failures = done.stdout.splitlines()
    for line in failures:
        assert line.startswith("1 error: ")
        assert "no space left on the disk" in line.lower() or "needs" in line, line
        assert str(disk) in line
    assert len(failures) >= 5
    whole = tmp_path / "whole"
    assert attempt(configured(*words), whole)[0] == 0
    assert outcome(tmp_path / "run") == outcome(whole)


def _grow_disk(cohort: Path, disk: Path, step: int, words: list[str]) -> None:
    kibibytes, code, before = step, 1, ""
    while code:
        subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(disk)], check=True)
        code, line = attempt(configuration(cohort, disk / "cache", *words), disk / "run")
        if code:
            print(code, line)
        if code not in (0, 1):
            return
        check_whole(disk)
        # The report is the one large file: nothing else is learned from small steps to it.
        kibibytes += 40 * step if line == before or "report.html" in line else step
        before = line
    shutil.copytree(disk / "run", disk.parent / "run")


def test_another_users_part_of_the_cache_is_not_damaged(images, tmp_path, monkeypatch):
    """a part of the cache that another user made and this account may not read → one line asks for
    a folder of one's own, at the start and in training; the part stays as it is"""
    folder = str(tmp_path / "cache")
    store, _ = read_images(images, WHOLE, folder)
    parts = sorted(Path(folder).rglob("*.npy"))
    before, opened = [each.stat().st_ino for each in parts], Path.open

    def open_own(path, *arguments):
        if path == parts[0]:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *arguments)

    monkeypatch.setattr(Path, "open", open_own)
    with pytest.raises(InputError, match=r"another user made it.*set data\.cache=DIR to a folder"):
        read_images(images, WHOLE, folder)
    assert [each.stat().st_ino for each in parts] == before
    os.utime(parts[0], (0, 0))  # they have replaced it meanwhile
    with pytest.raises(InputError, match="another user made it"):
        [store.bag(patient) for patient in images]


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    with two_trees():
        _grow_disk(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
