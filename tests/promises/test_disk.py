"""Full disks and failing file operations

`python -m tests.promises.test_disk COHORT DISK KIBIBYTES [WORDS...]` does a job on a tmpfs that
grows after each failure, and prints the lines of every failure, then the outcome's digests.
"""

import errno
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch

from lymphoml.cli.entry import run_cli
from lymphoml.cli.main import main
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, ROOT, configuration, outcome

slow = pytest.mark.slow
SHORT = ["trainer.max_epochs=2", "logger.tensorboard=true"]
AFTER = [["triage", "run={run}", "sensitivity=0.5"],
         ["predict", "run={run}", "data.root={root}", "data.cache={cache}"],
         ["report", "run={run}", "thumbnails=false"]]  # fmt: skip
AGAIN = "rerun the same command to resume"
FLUSH, EVERY = ("mkdir", "fsync"), ("mkdir", "mkstemp", "save", "fsync", "replace")
MOUNT = 'mount -t tmpfs -o size=4k none "$0" && exec "$@"'


def attempt(config, run):
    """Train, and all that a user does with a run; return the exit code and the line of error."""

    def whole_job():
        cross_validate(config, run)
        for words in AFTER:
            main([word.format(run=run, root=config.data.root, cache=config.data.cache)
                  for word in words])  # fmt: skip

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


class Faults:
    """Every one of these file operations on every file of a run fails, once."""

    def __init__(self, patch, folder, number, by_name, operations):
        self.folder, self.number, self.by_name = folder, number, by_name
        self.met = set()
        for module, name, target in (
            (os, "mkdir", lambda path, *_: path),
            (os, "replace", lambda _, path: path),
            (os, "fsync", lambda handle: os.readlink(f"/proc/self/fd/{handle}")),
            (tempfile, "mkstemp", lambda dir, prefix: f"{dir}/{prefix}"),
            (torch, "save", lambda _, file: file.name),
        ):
            if name in operations:
                patch.setattr(module, name, self._failing(getattr(module, name), name, target))

    def _failing(self, operation, name, target):
        # What the system itself leaves without a name: writing and flushing.
        names = name in ("mkdir", "mkstemp", "replace")

        def call(*args, **options):
            path = Path(target(*args, **options))
            if path.name.startswith("."):  # a temporary file
                path = path.with_name(path.name.split(".", 1)[1].rpartition(".")[0])
            met = name, path.name if self.by_name else str(path)
            if self.folder in path.parents and met not in self.met:
                self.met.add(met)
                raise OSError(self.number, os.strerror(self.number), *[str(path)] * names)
            return operation(*args, **options)

        return call


@pytest.mark.parametrize(("number", "by_name", "operations"), [
    pytest.param(errno.ENOSPC, True, FLUSH, id="disk full"),
    pytest.param(errno.ENOSPC, False, EVERY, id="disk full, every fold", marks=slow),
    *(pytest.param(number, True, EVERY, id=errno.errorcode[number], marks=slow)
      for number in (errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO)),
])  # fmt: skip
@pytest.mark.timeout(1200)
@pytest.mark.promise(
    "every file operation on every file of training, predicting, triage and the report fails once: "
    "disk full, quota, read-only, permission, open files, input/output",
    "one line with the file and what to do, exit code 1; every file is whole, and the same "
    "commands then end in the same bytes",
)
def test_every_file_operation_fails_once(
    configured, tmp_path, monkeypatch, record_property, number, by_name, operations
):
    config, run, whole = configured(*CLINICAL, *SHORT), tmp_path / "run", tmp_path / "whole"
    assert attempt(config, whole)[0] == 0
    faults, lines = Faults(monkeypatch, run, number, by_name, operations), []
    while (ended := attempt(config, run))[0]:
        code, line = ended
        assert code == 1, line
        assert line.startswith("error: ")
        assert "\n" not in line
        assert str(run) in line
        assert AGAIN in line
        check_whole(run)
        lines.append(line)
    assert len(lines) == len(faults.met)
    assert {"last.ckpt", "last.ckpt.sha256", "history.csv", "done.json",
            "predictions.csv", "metrics.json", "config.yaml", "environment.json", "folds.csv",
            "triage.json", "submission.csv", "report.html", "tensorboard"} <= {
                Path(met).name for _, met in faults.met}  # fmt: skip
    assert outcome(run) == outcome(whole)
    for name in ("test/predictions.csv", "test/submission.csv", "triage.json"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert not list(run.rglob(".*.*.*"))  # no temporary file
    record_property("tried", len(lines))


def on_small_disk(cohort, disk, step, *words):
    """Return the lines of each failure, and digests of the outcome."""
    disk.mkdir()
    python = [sys.executable, "-m", "tests.promises.test_disk", cohort, disk, str(step), *words]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT, disk, *python],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"WANDB_MODE": "offline"},
    )  # fmt: skip
    if done.stderr.startswith(("unshare:", "mount:")):
        pytest.skip(f"no disk of a chosen size can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    printed = done.stdout.splitlines()
    failures = [line for line in printed if not line.startswith("outcome ")]
    return failures, dict(line.split()[1:] for line in printed if line.startswith("outcome "))


def digests(run):
    return {name: hashlib.sha256(content).hexdigest() for name, content in outcome(run).items()}


@slow
@pytest.mark.skipif(not shutil.which("unshare"), reason="only Linux mounts a disk for every user")
@pytest.mark.parametrize(("step", "words"), [
    pytest.param(4, [*CLINICAL, *SHORT], id="4 KiB"), pytest.param(64, SHORT, id="with images"),
])  # fmt: skip
@pytest.mark.timeout(1200)
@pytest.mark.promise(
    "a real file system (tmpfs) is full, and grows by a few KiB after every failure until all fits",
    "each time one line with the file, exit code 1, all earlier files intact; in the end the same "
    "bytes",
)
def test_a_disk_that_is_full(configured, cohort, tmp_path, record_property, step, words):
    failures, found = on_small_disk(cohort, tmp_path / "disk", step, *words)
    for line in failures:
        assert line.startswith("1 error: ")
        assert "no space left on the disk" in line.lower() or "needs" in line, line
        assert str(tmp_path / "disk") in line
    assert len(failures) >= 5
    cross_validate(configured(*words), tmp_path / "whole")
    assert found == digests(tmp_path / "whole")
    record_property("tried", len(failures))


def _grow_disk(cohort: Path, disk: Path, step: int, words: list[str]) -> None:
    kibibytes, code, before = step, 1, ""
    while code:
        remount = ["mount", "-o", f"remount,size={kibibytes}k", str(disk)]
        subprocess.run(remount, check=True)
        code, line = attempt(configuration(cohort, disk / "cache", *words), disk / "run")
        if code:
            print(code, line)
        if code not in (0, 1):
            return
        check_whole(disk)
        # The report is the one large file: nothing else is learned from small steps to it.
        kibibytes += 40 * step if line == before or "report.html" in line else step
        before = line
    for name, digest in digests(disk / "run").items():
        print("outcome", name, digest)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    _grow_disk(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
