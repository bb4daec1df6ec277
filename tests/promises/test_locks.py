"""Two processes on one run folder."""

import json
import os
import re
import threading
import time

import pytest

from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.fold_lock import fold_lock
from tests.promises.processes import ROOT, end, wait_until

MAX_SECONDS = 10  # of which two are promised
RUN = ["data=synthetic", "logger=none", "data.folds=2", "trainer.num_threads=1",
       "hydra.run.dir=run", "model/fusion=clinical"]  # fmt: skip
LOCKED = r"fold {} of .*run is locked by process {} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\."
HOLDER = """
import time
from pathlib import Path
from lymphoml.runs.fold_lock import fold_lock
with fold_lock(Path("run"), 0):
    print("held", flush=True)
    time.sleep(1000)
"""
FORKS = """
import os, time
from pathlib import Path
from lymphoml.runs.fold_lock import fold_lock
with fold_lock(Path("run"), 0):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=16, test_patients=3, images=(1, 2), size=32, seed=0)
    return folder


@pytest.mark.promise(
    "two processes on one fold of a run folder",
    "the second leaves in two seconds, before it imports torch, with exit code 2 and one line that "
    "names the first",
)
def test_the_second_leaves_at_once(tmp_path, started):
    first = started("-c", HOLDER, cwd=tmp_path)
    assert first.stdout.readline() == "held\n"
    second = started("-X", "importtime", str(ROOT / "train.py"), *RUN, cwd=tmp_path)
    begin = time.monotonic()
    err = second.communicate(timeout=MAX_SECONDS)[1]
    print("left after", round(time.monotonic() - begin, 2))
    assert second.returncode == 2
    (line,) = [each for each in err.splitlines() if not each.startswith("import time")]
    assert re.match("error: " + LOCKED.format(0, first.pid), line)
    assert not re.search(r"\| +(torch|pytorch_lightning|pandas)\n", err)
    assert not (tmp_path / "run/fold-0").exists()


@pytest.mark.slow
@pytest.mark.promise(
    "a process trains one fold, another process another fold; the first is killed",
    "neither disturbs the other, and the killed one blocks nobody: the same command resumes it",
)
def test_folds_are_locked_one_by_one(cohort, tmp_path, started):
    words = [str(ROOT / "train.py"), *RUN, f"data.root={cohort}", "trainer.max_epochs=100000"]
    first, other = (started(*words, f"fold={fold}", cwd=tmp_path) for fold in (0, 1))
    for fold in (0, 1):
        wait_until((tmp_path / f"run/fold-{fold}/history.csv").exists)
    assert (first.poll(), other.poll()) == (None, None)
    end(first)
    again = started(*words, "fold=0", cwd=tmp_path)
    lines = "".join(again.stdout.readline() for _ in range(2))
    assert "fold 0" in lines, again.communicate()
    assert "epoch" in lines
    assert other.poll() is None


@pytest.mark.promise(
    "the process that holds a lock is killed; its number in the lock file is another's by now",
    "the lock is free at once, and the message names no other process",
)
def test_a_dead_process_holds_nothing(tmp_path, started):
    first = started("-c", HOLDER, cwd=tmp_path)
    assert first.stdout.readline() == "held\n"
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


@pytest.mark.promise(
    "a training process is killed, and a loader worker that it forked lives on",
    "the lock does not live on with it",
)
def test_a_fork_inherits_no_lock(tmp_path, started):
    parent = started("-c", FORKS, cwd=tmp_path)
    forked = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    os.kill(forked, 0)  # it is there
    with fold_lock(tmp_path / "run", 0):
        pass


@pytest.mark.promise(
    "another process renames checkpoints of its fold while a run is started or read",
    "none of them is taken for a link",
)
def test_what_vanishes_is_no_link(tmp_path):
    last, previous = tmp_path / "fold-0/last.ckpt", tmp_path / "fold-0/previous.ckpt"
    last.parent.mkdir()
    last.write_text("")
    done = threading.Event()

    def rename() -> None:
        while not done.is_set():
            last.rename(previous)
            previous.rename(last)

    other = threading.Thread(target=rename)
    other.start()
    try:
        for _ in range(2000):
            reject_symlinks(tmp_path)
    finally:
        done.set()
        other.join()


@pytest.mark.promise("a run that is refused", "leaves no lock file and no folder of a fold")
def test_a_refused_run_leaves_no_trace(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError), fold_lock(tmp_path / "run", 0):
        raise InputError("refused")
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.slow
@pytest.mark.promise(
    "two predictions into one folder at once", "two whole files, each of one of them"
)
def test_two_predictions_at_once(cohort, tmp_path, started):
    words = [str(ROOT / "train.py"), *RUN, "trainer.max_epochs=1", f"data.root={cohort}"]
    trained = started(*words, cwd=tmp_path)
    assert trained.wait() == 0
    predict = [str(ROOT / "predict.py"), "run=run", f"data.root={cohort}"]
    both = [started(*predict, cwd=tmp_path) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len((tmp_path / "run/test/predictions.csv").read_text().splitlines()) == 4
    assert len((tmp_path / "run/test/submission.csv").read_text().splitlines()) == 4
    assert not list((tmp_path / "run/test").glob(".*"))
    assert json.loads((tmp_path / "run/metrics.json").read_text())
