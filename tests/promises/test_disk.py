"""Disks that fill up, and machines that refuse."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from lymphoml.cli.entry import run_cli
from lymphoml.cli.main import main
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, ROOT, outcome

SHORT = ["trainer.max_epochs=2", "logger.tensorboard=true"]
AFTER = [["triage", "run={run}", "sensitivity=0.5"],
         ["predict", "run={run}", "data.root={root}", "data.cache={cache}"],
         ["report", "run={run}", "thumbnails=false"]]  # fmt: skip
AGAIN = "rerun the same command to resume"


def whole_job(config, run):
    """Train, and all that a user does with a run."""
    cross_validate(config, run)
    for words in AFTER:
        main([word.format(run=run, **config["data"]) for word in words])


def parsed(folder):
    """Whatever has its own name is whole: nothing is there and empty."""
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".csv", ".yaml", ".html", ".npy") and path.name[0] != ".":
            assert path.stat().st_size, path


class Faults:
    """Every one of these file operations on every file of a run fails, once."""

    def __init__(self, patch, folder, number, key, operations):
        self.folder, self.number, self.key = folder, number, key
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
            if path.name.startswith("."):  # the temporary file beside it
                path = path.with_name(path.name.split(".", 1)[1].rpartition(".")[0])
            met = name, self.key(path)
            if self.folder in path.parents and met not in self.met:
                self.met.add(met)
                raise OSError(self.number, os.strerror(self.number), *[str(path)] * names)
            return operation(*args, **options)

        return call


def by_name(path):
    return path.name


FLUSH, EVERY = ("mkdir", "fsync"), ("mkdir", "mkstemp", "save", "fsync", "replace")


@pytest.mark.parametrize(("number", "key", "operations"), [
    pytest.param(errno.ENOSPC, by_name, FLUSH, id="disk full"),
    pytest.param(errno.ENOSPC, str, EVERY, id="disk full, every fold", marks=pytest.mark.slow),
    *(pytest.param(number, by_name, EVERY, id=errno.errorcode[number], marks=pytest.mark.slow)
      for number in (errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO)),
])  # fmt: skip
@pytest.mark.timeout(1200)
@pytest.mark.promise(
    "every file operation on every file of training, predicting, triage and the page fails once: "
    "disk full; by make test-all also quota, read-only, permission, open files, input/output",
    "one line with the file and what to do, exit code 1; what is there is whole, and the same "
    "commands then end in the undisturbed run's bytes",
)
def test_every_file_operation_fails_once(
    configured, tmp_path, capsys, monkeypatch, record_property, number, key, operations
):
    whole_job(configured(*CLINICAL, *SHORT), tmp_path / "whole")
    run, lines, code = tmp_path / "run", [], 1
    faults = Faults(monkeypatch, run, number, key, operations)
    capsys.readouterr()
    while code:
        code = 0
        try:
            run_cli(lambda: whole_job(configured(*CLINICAL, *SHORT), run))
        except SystemExit as left:
            code = left.code
            assert code == 1, capsys.readouterr().err
            lines.append(f"{code} {capsys.readouterr().err.strip()}")
        parsed(run)
    for line in lines:
        assert line.startswith("1 error: ")
        assert "\n" not in line
        assert str(run) in line
        assert AGAIN in line
    assert len(lines) == len(faults.met)
    assert {"last.ckpt", "last.ckpt.sha256", "history.csv", "done.json",
            "predictions.csv", "metrics.json", "config.yaml", "environment.json", "folds.csv",
            "triage.json", "submission.csv", "report.html", "tensorboard"} <= {
                Path(met).name for _, met in faults.met}  # fmt: skip
    assert outcome(run) == outcome(tmp_path / "whole")
    for name in ("test/predictions.csv", "test/submission.csv", "triage.json"):
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(run.rglob(".*.*.*"))  # no temporary file
    record_property("tried", len(lines))


MOUNT = 'mount -t tmpfs -o size=4k none "$0" && exec "$@"'


def on_small_disk(cohort, disk, step, *words):
    """The lines of each failure, and digests of the outcome."""
    disk.mkdir()
    python = [sys.executable, "-m", "tests.promises.full_disk", cohort, disk, str(step), *words]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", MOUNT, disk, *python],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | {"WANDB_MODE": "offline"},
    )  # fmt: skip
    if done.stderr.startswith(("unshare:", "mount:")):
        pytest.skip(f"no disk of a chosen size can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    told = done.stdout.splitlines()
    failures = [line for line in told if not line.startswith("outcome ")]
    return failures, dict(line.split()[1:] for line in told if line.startswith("outcome "))


@pytest.mark.skipif(not shutil.which("unshare"), reason="only Linux mounts a disk for anybody")
@pytest.mark.parametrize(("step", "words"), [
    pytest.param(32, [*CLINICAL, *SHORT], id="32 KiB"),
    pytest.param(4, [*CLINICAL, *SHORT], id="4 KiB", marks=pytest.mark.slow),
    pytest.param(64, SHORT, id="with images", marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.timeout(1200)
@pytest.mark.promise(
    "a real file system (tmpfs) is full, and grows by a few KiB after every failure until all fits",
    "each time one line with the file, exit code 1, everything earlier intact; at last the "
    "undisturbed run's bytes",
)
def test_a_disk_that_is_full(configured, cohort, tmp_path, record_property, step, words):
    failures, found = on_small_disk(cohort, tmp_path / "disk", step, *words)
    for line in failures:
        assert line.startswith("1 error: ")
        assert "no space left on the disk" in line.lower() or "needs" in line, line
        assert str(tmp_path / "disk") in line
    assert len(failures) >= 5
    cross_validate(configured(*words), tmp_path / "whole")
    wanted = outcome(tmp_path / "whole")
    assert found == {name: hashlib.sha256(each).hexdigest() for name, each in wanted.items()}
    record_property("tried", len(failures))
