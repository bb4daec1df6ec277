"""Two processes on one run folder."""

import os
import re
import threading
from itertools import pairwise

import pytest

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.runs.fold_lock import fold_lock
from tests.promises.jobs import ROOT, end, wait_until

MAX_SECONDS = 10  # of which two are promised
RUN = ["data=synthetic", "logger=none", "data.folds=2", "trainer.num_threads=1",
       "hydra.run.dir=run", "model/fusion=clinical"]  # fmt: skip
LOCKED = r"fold {} of .*run is locked by process {} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\."
HOLDER = """
import os, time
from pathlib import Path
from lymphoml.runs.fold_lock import fold_lock
with fold_lock(Path("run"), 0):
    if FORKS and os.fork():
        time.sleep(1000)
    print(os.getpid(), flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def holder(started, tmp_path):
    def start_holder(forks=False):
        process = started("-c", HOLDER.replace("FORKS", str(forks)), cwd=tmp_path)
        return process, int(process.stdout.readline())

    return start_holder


def test_the_second_leaves_at_once(tmp_path, started, holder):
    """two processes on one fold of a run folder → the second leaves in two seconds, before it
    imports torch, with exit code 2 and one line that names the first"""
    first, _ = holder()
    second = started("-X", "importtime", ROOT / "train.py", *RUN, cwd=tmp_path)
    err = second.communicate(timeout=MAX_SECONDS)[1]
    assert second.returncode == 2
    (line,) = [each for each in err.splitlines() if not each.startswith("import time")]
    assert re.match("error: " + LOCKED.format(0, first.pid), line)
    assert not re.search(r"\| +(torch|pytorch_lightning|pandas)\n", err)
    assert not (tmp_path / "run/fold-0").exists()


@pytest.mark.slow
def test_folds_are_locked_one_by_one(cohort, tmp_path, started):
    """a process trains one fold, another process another fold; the first is killed → neither
    disturbs the other, and the killed one blocks nobody: the same command resumes it"""
    words = [ROOT / "train.py", *RUN, f"data.root={cohort}", "trainer.max_epochs=100000"]
    first, other = (started(*words, f"fold={fold}", cwd=tmp_path) for fold in (0, 1))
    for fold in (0, 1):
        wait_until((tmp_path / f"run/fold-{fold}/previous.ckpt").exists)
    assert (first.poll(), other.poll()) == (None, None)
    end(first)
    again = started(*words, "fold=0", cwd=tmp_path)
    wait_until(lambda: "fold 0: resuming after epoch" in again.stdout.readline())
    assert other.poll() is None


def test_a_dead_process_holds_nothing(tmp_path, holder):
    """the process that holds a lock is killed; its number in the lock file is another's by now; a
    run is refused → the lock is free at once, the message names no other process, no lock file is
    left"""
    first, _ = holder()
    with pytest.raises(InputError, match=f"locked by process {first.pid} since 20"):
        fold_lock(tmp_path / "run", 0).__enter__()
    end(first)
    lock = tmp_path / "run/.fold-0.lock"
    assert lock.read_text().startswith(f"process {first.pid} ")
    lock.write_text(f"process {os.getppid()} since 2020-01-01 00:00:00")  # the number is reused
    with fold_lock(tmp_path / "run", 0):
        assert lock.read_text().startswith(f"process {os.getpid()} ")
        with fold_lock(tmp_path / "run", 0):  # its own again
            pass
        assert lock.exists()
    assert not lock.exists()
    with pytest.raises(InputError), fold_lock(tmp_path / "run", 0):
        raise InputError("refused")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_fork_inherits_no_lock(tmp_path, holder):
    """a training process is killed, and a loader worker that it forked lives on → the lock does not
    live on with it"""
    parent, forked = holder(forks=True)
    parent.kill()
    parent.wait()
    os.kill(forked, 0)  # it is there
    with fold_lock(tmp_path / "run", 0):
        pass


def test_what_vanishes_is_no_link(tmp_path):
    """another process renames checkpoints of its fold while a run is started or read → none of them
    is taken for a link"""
    names = [tmp_path / "fold-0/last.ckpt", tmp_path / "fold-0/previous.ckpt"] * 10_000
    names[0].parent.mkdir()
    names[0].write_text("")
    other = threading.Thread(target=lambda: [one.rename(next_) for one, next_ in pairwise(names)])
    other.start()
    while other.is_alive():
        reject_symlinks(tmp_path)


@pytest.mark.slow
def test_two_predictions_at_once(run, cohort, tmp_path, started):
    """two predictions into one folder at once → two whole files, each of one of them"""
    words = [ROOT / "predict.py", "run=run", f"data.root={cohort}"]
    both = [started(*words, cwd=tmp_path) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    for name in ("predictions", "submission"):
        assert len((run / f"test/{name}.csv").read_text().splitlines()) == 4
    assert not list((run / "test").glob(".*"))
