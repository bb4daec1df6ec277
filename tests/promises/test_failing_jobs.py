"""Failing jobs."""

import os
import signal
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from lymphoml.cli.entry import run_cli
from lymphoml.cli.main import main
from lymphoml.data.bags import BagDataset
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import LAST, load_checkpoint
from lymphoml.training.lightning_module import BagClassifier
from tests.promises.jobs import CLINICAL, ROOT, configuration, few, outcome, python, train_ends

SHORT = [*CLINICAL, "trainer.max_epochs=2", "data.batch_size=2"]
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(cohort, tmp_path_factory):
    """The outcome of a job without a fault; the number of loader workers does not change it."""
    folder = tmp_path_factory.mktemp("whole")

    @cache
    def run(*words):
        name = folder / str(len(list(folder.iterdir())))
        cross_validate(configuration(cohort, folder / "cache", *words), name)
        return outcome(name)

    return lambda *words: run(
        *(each for each in words if "num_workers" not in each and "timeout" not in each)
    )


def learn_seed(callback, trainer, module):
    if callback.path.parent.name == "fold-1":
        learn_seed.seed = trainer.datamodule.keyed


def at_a_patient(fault):
    """Fold 1's loader calls or raises `fault` at a patient of its second epoch, in any process."""
    original = BagDataset.__getitem__

    def get(self, key):
        if key[0] == 1 and self.seed == learn_seed.seed:
            if isinstance(fault, Exception):
                raise fault
            fault()
        return original(self, key)

    return BagDataset, "__getitem__", get


def corrupts_cache(corrupt):
    original = History.on_train_epoch_start

    def start(self, trainer, module):
        if trainer.current_epoch == 1 and self.path.parent.name == "fold-1":
            for part in sorted((self.path.parents[2] / "cache").rglob("*.npy")):
                corrupt(part)
        original(self, trainer, module)

    return History, "on_train_epoch_start", start


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)


training_step = BagClassifier.training_step


def bad_loss(self, batch, index):
    return training_step(self, batch, index) * float("nan")


def bad_label(self, batch, index):
    return training_step(self, batch._replace(label=batch.label * float("inf")), index)


def bad_weight(self, batch, index):
    loss = training_step(self, batch, index)
    with torch.no_grad():
        next(self.parameters()).view(-1)[0] = float("inf")
    return loss


def diverges(bad, bad_batch):
    def step(self, batch, index):
        last = self.trainer.num_training_batches - 1
        here = self.current_epoch == 1 and index == min(bad_batch, last)
        in_fold = self.trainer.default_root_dir.endswith("fold-1")
        return (bad if here and in_fold else training_step)(self, batch, index)

    return BagClassifier, "training_step", step


WORKER = [*SHORT, "data.num_workers=1"]
WAITS = [*WORKER, "data.timeout=2"]
IMAGES = ["trainer.max_epochs=2", "data.batch_size=2", "optim=adam"]
BY_WORKER = [*IMAGES, "data.num_workers=1"]
CACHED = ["patient P", "/cache/images/"]
FIRST, THIRD = "epoch 2, batch 1 (patients P", "epoch 2, batch 3 (patients P"
DIED, MEMORY, NAN = "a loader worker died", "trainer.encoder_chunk_size", "NaN or Inf"
CUDA = torch.OutOfMemoryError("CUDA out of memory.")
NO_FORK = OSError(12, "Cannot allocate memory")
TENSOR = at_a_patient(lambda: torch.empty(1 << 58, dtype=torch.uint8))
ARRAY = at_a_patient(lambda: np.empty(1 << 58, np.uint8))
FAULTS = {  # settings, what fails, what the line contains
    "worker killed": (WAITS, at_a_patient(lambda: os.kill(os.getpid(), 9)), [DIED, FIRST]),
    "worker gone": (WAITS, at_a_patient(lambda: os._exit(3)), [DIED, FIRST]),
    "worker asleep": (WAITS, at_a_patient(lambda: time.sleep(500)), ["for 2 seconds", FIRST]),
    "worker stopped": (WAITS, at_a_patient(lambda: os.kill(os.getpid(), signal.SIGSTOP)),
                       ["for 2 seconds", FIRST]),
    "cut under a worker": (BY_WORKER, corrupts_cache(cut), CACHED),
    "flipped": (IMAGES, corrupts_cache(flip), CACHED),
    "removed under a worker": (BY_WORKER, corrupts_cache(Path.unlink), CACHED),
    "loss": (SHORT, diverges(bad_label, 0), [NAN, FIRST]),
    "gradient": (SHORT, diverges(bad_loss, 1), [NAN, THIRD]),
    "last gradient": (SHORT, diverges(bad_loss, 99), [NAN, "epoch 2"]),
    "weight": (SHORT, diverges(bad_weight, 1), [NAN, THIRD]),
    "last weight": (SHORT, diverges(bad_weight, 99), [NAN, "epoch 2"]),
    "memory": (SHORT, TENSOR, [MEMORY, FIRST]),
    "memory of a worker": (WORKER, TENSOR, [MEMORY, FIRST]),
    "memory of numpy": (WORKER, ARRAY, [MEMORY, FIRST]),
    "memory of Python": (SHORT, at_a_patient(MemoryError()), [MEMORY, FIRST]),
    "memory of CUDA": (SHORT, at_a_patient(CUDA), [MEMORY, FIRST]),
    "memory to fork": (WORKER, at_a_patient(NO_FORK), [MEMORY, FIRST]),
}  # fmt: skip


@pytest.mark.parametrize("name", few(FAULTS, "worker killed", "last weight", "memory"))
def test_a_fault_within_a_fold(name, configured, undisturbed, cohort, tmp_path, capsys):
    """a loader worker is killed, exits, hangs or is stopped; decoded images are cut short, changed
    or removed; a loss, gradient or weight becomes NaN or Inf, also at an epoch's last step; memory
    does not suffice for a batch → one line with fold, epoch, batch, patients, and the file or the
    settings that need less, exit code 1; the last good checkpoint stays, nothing looks finished,
    and the same command ends in the undisturbed run's bytes"""
    (words, fault, expected), run = FAULTS[name], tmp_path / "run"
    learn_seed.seed = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "on_fit_start", learn_seed, raising=False)
        patch.setattr(*fault)
        (line,) = train_ends(capsys, configured(*words), run, code=1)
    assert line.startswith("error: fold 1, ")
    assert all(each in line for each in expected), line
    assert load_checkpoint(run / "fold-1" / LAST)["epoch"] == 0
    assert not (run / "fold-1" / "done.json").exists()
    assert not (run / "metrics.json").exists()
    for command in (["report"], ["predict", f"data.root={cohort}"]):
        with pytest.raises(SystemExit):
            main([*command, f"run={run}"])
    assert not (run / "report.html").exists()
    assert not (run / "test").exists()
    cross_validate(configured(*words), run)
    assert outcome(run) == undisturbed(*words)


@slow
@pytest.mark.parametrize("fault", [KeyError("no such thing"), OSError(28, "No space")], ids=repr)
def test_other_folds_are_trained(configured, undisturbed, tmp_path, capsys, fault):
    """a fold fails with on_fold_error=skip → the other folds are trained; exit code 1 and a line
    with the missing folds; no metrics.json; the same command trains what is missing, to the
    undisturbed run's bytes"""
    words, run = [*SHORT, "data.folds=3"], tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "on_fit_start", learn_seed, raising=False)
        patch.setattr(*at_a_patient(fault))
        config = configured(*words, "on_fold_error=skip")
        with pytest.raises(SystemExit) as left:
            run_cli(lambda: cross_validate(config, run))
    lines = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error: ")]
    assert left.value.code == 1
    assert lines[0].startswith("error: fold 1")
    assert lines[-1].startswith("error: missing: fold 1, ")
    done = [(run / f"fold-{fold}" / "done.json").exists() for fold in range(3)]
    assert done == [True, False, True]
    assert not (run / "metrics.json").exists()
    cross_validate(configured(*words), run)
    assert outcome(run) == undisturbed(*words)


def one_job_fails(cohort, folder, *launcher):
    """Run a sweep of two jobs, of which one fails; return what it writes to stderr."""
    words = ["-m", "lr=3e38,1e-3", "data=synthetic", "logger=none", "trainer.max_epochs=1",
             "data.folds=2", "trainer.num_threads=1", "model/fusion=clinical",
             f"data.root={cohort}", *launcher]  # fmt: skip
    done = python(ROOT / "train.py", *words, cwd=folder, limit=300)
    assert done.returncode == 1, done.stderr
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("error"))
    assert "lr=3e+38" in line
    assert "fold 0, epoch 1" in line
    (finished,) = (folder / "runs" / "cv").glob("*/metrics.json")
    assert "lr=0.001" in finished.parent.name
    return done.stderr


@slow
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_other_jobs_run(cohort, tmp_path, launcher):
    """a job of a sweep fails for its machine or its training → one line with the job's name; the
    other jobs run; exit code 1"""
    printed = one_job_fails(cohort, tmp_path, f"hydra/launcher={launcher}")
    assert "error: job data.folds=2," in printed
    assert "Traceback" not in printed
