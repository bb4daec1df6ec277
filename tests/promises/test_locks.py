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

SOON = 10  # seconds, of which two are promised
RUN = ["data=synthetic", "logger=none", "data.folds=2", "trainer.num_threads=1", "hydra.run.dir=run",
       "model/fusion=clinical"]  # fmt: skip
TAKEN = (
    r"error: fold {} of .*run is locked by process {} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\. .*\n"
)
HOLDER = """
import sys, time
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
    "two processes on one run folder",
    "the second leaves in two seconds, before it imports torch, with exit code 2 and one line that "
    "names the first; another fold may be trained meanwhile; what is killed blocks nobody",
)
def test_the_second_leaves_at_once(cohort, tmp_path, started):
    words = [str(ROOT / "train.py"), *RUN, f"data.root={cohort}"]
    first = started(*words, "fold=0", "trainer.max_epochs=100000", cwd=tmp_path)
    wait_until((tmp_path / "run/.fold-0.lock").exists)
    asked = time.monotonic()
    second = started("-X", "importtime", *words, cwd=tmp_path)
    told = second.communicate(timeout=SOON)[1]
    print("left after", round(time.monotonic() - asked, 2))
    assert second.returncode == 2
    lines = [line for line in told.splitlines(True) if not line.startswith("import time")]
    assert re.fullmatch(TAKEN.format(0, first.pid), "".join(lines))
    assert not re.search(r"\| +(torch|pytorch_lightning|pandas)\n", told)
    assert not (tmp_path / "run/fold-1").exists()
    wait_until((tmp_path / "run/fold-0/history.csv").exists)
    other = started(*words, "fold=1", "trainer.max_epochs=100000", cwd=tmp_path)
    history = tmp_path / "run/fold-1/history.csv"
    wait_until(lambda: history.exists() or other.poll() is not None)
    assert other.poll() is None, other.communicate()
    assert first.poll() is None
    end(first)
    again = started(*words, "fold=0", "trainer.max_epochs=100000", cwd=tmp_path)
    told = "".join(again.stdout.readline() for _ in range(2))
    assert "fold 0 goes on after epoch" in told, again.communicate()
    assert other.poll() is None


@pytest.mark.promise(
    "the process that holds a lock is killed; its number in the lock file is another's by now",
    "the lock is free at once, and no lie is told",
)
def test_a_dead_process_holds_nothing(tmp_path, started):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("")
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
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("")
    parent = started("-c", FORKS, cwd=tmp_path)
    forked = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    os.kill(forked, 0)  # it is there
    with fold_lock(tmp_path / "run", 0):
        pass


@pytest.mark.promise(
    "a checkpoint is renamed by who trains another fold while a run begins or is read",
    "nobody takes it for a link",
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
def test_a_refused_run_leaves_no_trace(cohort, tmp_path, started):
    words = [*RUN, "lr=-1", f"data.root={cohort}"]
    done = started(str(ROOT / "train.py"), *words, cwd=tmp_path)
    told = done.communicate()[1]
    assert done.returncode == 2
    assert "learning rate" in told
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.promise(
    "two predictions into one folder at once", "two whole files, each of one of them"
)
def test_two_predictions_at_once(cohort, tmp_path, started):
    words = [str(ROOT / "train.py"), *RUN, "trainer.max_epochs=1", f"data.root={cohort}"]
    trained = started(*words, cwd=tmp_path)
    assert trained.wait() == 0
    predict = [str(ROOT / "predict.py"), "run=run", f"data.root={cohort}"]
    pair = [started(*predict, cwd=tmp_path) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]
    assert len((tmp_path / "run/test/predictions.csv").read_text().splitlines()) == 4
    assert len((tmp_path / "run/test/submission.csv").read_text().splitlines()) == 4
    assert not list((tmp_path / "run/test").glob(".*"))
    assert json.loads((tmp_path / "run/metrics.json").read_text())
