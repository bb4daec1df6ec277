"""Corrupt and missing checkpoints"""

import os
import shutil

import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.training import checkpoint
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import LAST, find_resume_checkpoint, load_checkpoint
from tests.promises.jobs import CLINICAL, configuration, outcome, predict, refused, train_ends

slow = pytest.mark.slow
RESUMED = "resuming from previous.ckpt, the end of epoch 1"
ADAM = ["optim=adam", "data.augment.flip=true", "data.train_bag_size=2", "trainer.patience=5",
        "data.inner_val_fraction=0.3"]  # fmt: skip
CODE = [*CLINICAL, "data.splitter=kfold", "data.shuffle=false", "loss.after_sigmoid=true"]


DAMAGES = {  # None: the file is missing
    "truncated": lambda b: b[: len(b) // 2],
    "empty": lambda b: b"",
    "a bit flipped": lambda b: b[:-9] + bytes([b[-9] ^ 16]) + b[-8:],
    "missing": None,
    "digest empty": lambda b: b"",
    "digest not text": lambda b: b"\xff\xfe" + b[4:],
    "digest missing": None,
}
FEW = ["truncated", "missing"]


def spoil(fold_folder, name, file=LAST):
    path = fold_folder / (f"{file}.sha256" if name.startswith("digest") else file)
    if DAMAGES[name] is None:
        path.unlink()
    else:
        path.write_bytes(DAMAGES[name](path.read_bytes()))


class Runs:
    """A whole run and one whose fold 1 died in its third epoch."""

    def __init__(self, cohort, folder, *words):
        self.config = configuration(cohort, folder / "cache", *words)
        self.whole, self.stopped = folder / "whole", folder / "stopped"
        cross_validate(self.config, self.whole)
        original = History.on_train_epoch_start

        def dies(callback, trainer, module):
            if trainer.current_epoch == 2 and callback.path.parent.name == "fold-1":
                raise SystemExit(130)
            original(callback, trainer, module)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(History, "on_train_epoch_start", dies)
            with pytest.raises(SystemExit):
                cross_validate(self.config, self.stopped)

    def finish(self, run):
        """Run the same command again, which must end in the same bytes."""
        cross_validate(self.config, run)
        assert outcome(run) == outcome(self.whole)


@pytest.fixture(scope="module")
def runs(cohort, tmp_path_factory):
    return Runs(cohort, tmp_path_factory.mktemp("runs"), *CLINICAL)


@pytest.mark.parametrize(("words", "damages"), [
    (None, FEW[:1]), (CODE, FEW[:1]), pytest.param(None, list(DAMAGES), marks=slow),
    pytest.param(["optim=sgd"], FEW[:1], marks=slow), pytest.param(ADAM, FEW[:1], marks=slow),
], ids=["one", "in order", "all", "sgd", "adam"])  # fmt: skip
def test_a_corrupt_last_checkpoint(cohort, runs, tmp_path, capsys, words, damages):
    """the last checkpoint of an interrupted fold, or its digest file, is truncated, empty, changed
    or missing; in the table's order, too; with images: SGD; Adam with augmentation, instance
    sampling, inner validation → resumes from the previous epoch, with a line about both, and ends
    in the same bytes"""
    if words:
        runs = Runs(cohort, tmp_path, *words)
    for name in damages:
        run = shutil.copytree(runs.stopped, tmp_path / name)
        spoil(run / "fold-1", name)
        capsys.readouterr()
        runs.finish(run)
        (line,) = (each for each in capsys.readouterr().out.splitlines() if LAST in each)
        assert line.startswith(f"fold 1: {run / 'fold-1' / LAST} "), name
        assert line.endswith(RESUMED), name


def test_two_corrupt_checkpoints_are_refused(runs, tmp_path, capsys):
    """both checkpoints of an interrupted fold are corrupt or missing → one line says what to
    remove, exit code 2; no fold is restarted without that"""
    for name in FEW:
        run = shutil.copytree(runs.stopped, tmp_path / name)
        for file in (LAST, checkpoint.PREVIOUS):
            spoil(run / "fold-1", name, file)
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*.c*")}
        (line,) = train_ends(capsys, runs.config, run)
        assert line.startswith("error: fold 1: ")
        assert f"remove {run / 'fold-1'} " in line
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*.c*")} == before
    shutil.rmtree(run / "fold-1")
    runs.finish(run)


@slow
def test_a_corrupt_selected_checkpoint_is_refused(cohort, tmp_path, capsys):
    """the checkpoint of the epoch that inner validation selected is corrupt or missing → one line
    before any training, exit code 2; no other epoch is reported instead"""
    words = [*CLINICAL, "data.inner_val_fraction=0.3", "optim=adam", "lr=1e-2"]
    selecting = Runs(cohort, tmp_path, *words)
    for name in FEW:
        run = shutil.copytree(selecting.stopped, tmp_path / name)
        spoil(run / "fold-1", name, checkpoint.SELECTED)
        (line,) = train_ends(capsys, selecting.config, run)
        assert str(run / "fold-1" / checkpoint.SELECTED) in line
        assert not (run / "fold-1" / "done.json").exists()


def test_a_finished_folds_corrupt_checkpoint(runs, cohort, tmp_path, capsys):
    """a finished fold's checkpoint is corrupt when new patients are predicted → one line says which
    folder to remove, exit code 2, nothing is written; then the rerun trains that fold to the same
    bytes"""
    for name in FEW:
        run = shutil.copytree(runs.whole, tmp_path / name)
        kept = [path.name for path in (run / "fold-1").glob("*.ckpt")]
        assert kept == [LAST]  # a finished fold keeps no second one
        spoil(run / "fold-1", name)
        line = refused(capsys, "predict", f"run={run}", f"data.root={cohort}")
        assert f"remove {run / 'fold-1'} " in line
        assert not (run / "test").exists()
    shutil.rmtree(run / "fold-1")
    runs.finish(run)
    predict(runs.config, run)


def save(folder, epoch):
    content = {"epoch": epoch, "weight": torch.full((100,), float(epoch))}
    checkpoint.AtomicCheckpointIO().save_checkpoint(content, folder / LAST)


def is_killed(folder, step, after):
    """Save epoch 2 with a kill before or after this file operation; return whether it came."""
    left = step

    def counted(operation):
        def call(*args, **options):
            nonlocal left
            left -= 1
            done = operation(*args, **options) if left >= 0 or after else None
            if left < 0:
                raise KeyboardInterrupt
            return done

        return call

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((os, "replace"), (os, "fsync"), (os, "chmod"), (torch, "save")):
            patch.setattr(module, name, counted(getattr(module, name)))
        try:
            save(folder, 2)
        except KeyboardInterrupt:
            return True
    return False


def test_no_moment_of_a_save_leaves_fewer_than_one_good_checkpoint(tmp_path):
    """a kill at each file operation while a checkpoint is written or restored → a good checkpoint
    is always found: of this epoch or the previous one"""
    tried = 0
    for step, after in ((step, after) for step in range(100) for after in (False, True)):
        folder = tmp_path / f"{step} {after}"
        folder.mkdir()
        save(folder, 0)
        save(folder, 1)
        if not is_killed(folder, step, after):
            break
        tried += 1
        found = load_checkpoint(find_resume_checkpoint(folder, fold=0).checkpoint)
        epoch = found["epoch"]
        assert epoch in (1, 2)
        assert found["weight"].tolist() == [epoch] * 100
        save(folder, epoch + 1)
        assert load_checkpoint(folder / LAST)["epoch"] == epoch + 1
        assert find_resume_checkpoint(folder, 0) == (folder / LAST, None)
        (folder / LAST).write_bytes(b"")
        assert load_checkpoint(find_resume_checkpoint(folder, 0).checkpoint)["epoch"] == epoch
        assert find_resume_checkpoint(folder, 0).notice is None
        (folder / LAST).write_bytes(b"corrupt again")
        with pytest.raises(InputError, match=r"previous.ckpt is missing"):
            find_resume_checkpoint(folder, 0)
    assert tried >= 20
