"""Checkpoints."""

import os
import shutil

import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import (
    LAST,
    PREVIOUS,
    SELECTED,
    AtomicCheckpointIO,
    find_resume_checkpoint,
    load_checkpoint,
)
from tests.promises.jobs import CLINICAL, outcome, predict, refusal


def flipped(content: bytes, place: float) -> bytes:
    at = int(place * (len(content) - 1))
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


DAMAGES = {
    "truncated": lambda b: b[: len(b) // 2],
    "one byte short": lambda b: b[:-1],
    "empty": lambda b: b"",
    "longer": lambda b: b + b"\0",
    "zeroed": lambda b: bytes(len(b)),
    **{f"a bit flipped at {place}": lambda b, place=place: flipped(b, place)
       for place in (0.0, 0.3, 0.6, 1.0)},
    "missing": None,
}  # fmt: skip
ADAM = ["optim=adam", "data.augment.flip=true", "data.train_bag_size=2", "data.inner_val_fraction=0.3",
        "trainer.patience=5"]  # fmt: skip


def spoil(path, damage):
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))


def stopped_after_two_epochs(config, run):
    """Fold 1 dies in its third epoch."""
    original = History.on_train_epoch_start

    def dies(self, trainer, module):
        if trainer.current_epoch == 2 and self.path.parent.name == "fold-1":
            raise SystemExit(130)
        original(self, trainer, module)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "on_train_epoch_start", dies)
        with pytest.raises(SystemExit):
            cross_validate(config, run)
    return run


@pytest.mark.parametrize(("words", "damages"), [
    pytest.param(CLINICAL, list(DAMAGES), id="sgd, no images"),
    pytest.param(ADAM, ["truncated", "missing"], id="adam"),
    pytest.param(["optim=sgd"], list(DAMAGES), id="sgd", marks=pytest.mark.slow),
    pytest.param(ADAM, list(DAMAGES), id="adam, all", marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.promise(
    "the last checkpoint of an interrupted fold is truncated, empty, flipped or missing",
    "the epoch before it is gone on from, both are named, and the bytes are the undisturbed run's",
)
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(
    configured, tmp_path, capsys, record_property, words, damages
):
    cross_validate(configured(*words), tmp_path / "whole")
    stopped = stopped_after_two_epochs(configured(*words), tmp_path / "stopped")
    for name in damages:
        run = shutil.copytree(stopped, tmp_path / name)
        spoil(run / "fold-1" / LAST, DAMAGES[name])
        capsys.readouterr()
        cross_validate(configured(*words), run)
        (line,) = (each for each in capsys.readouterr().out.splitlines() if LAST in each)
        assert line.startswith(f"fold 1: {run / 'fold-1' / LAST} "), name
        assert line.endswith("resuming from previous.ckpt, the end of epoch 1"), name
        assert outcome(run) == outcome(tmp_path / "whole"), name
    record_property("tried", len(damages))


@pytest.mark.promise(
    "the sidecar of the last checkpoint is damaged, empty or missing",
    "the epoch before is gone on from; the bytes are the undisturbed run's",
)
def test_a_damaged_sidecar_is_a_damaged_checkpoint(configured, tmp_path, capsys, record_property):
    cross_validate(configured(*CLINICAL), tmp_path / "whole")
    stopped = stopped_after_two_epochs(configured(*CLINICAL), tmp_path / "stopped")
    damages = (None, lambda b: b"", lambda b: b"\xff\xfe" + b[4:], lambda b: b[:10])
    for number, damage in enumerate(damages):
        run = shutil.copytree(stopped, tmp_path / str(number))
        spoil(run / "fold-1" / f"{LAST}.sha256", damage)
        cross_validate(configured(*CLINICAL), run)
        assert "resuming from previous.ckpt" in capsys.readouterr().out
        assert outcome(run) == outcome(tmp_path / "whole")
    record_property("tried", len(damages))


@pytest.mark.promise(
    "both checkpoints of an interrupted fold are damaged or missing",
    "one line says what to remove, exit code 2; nothing begins anew by itself",
)
def test_two_damaged_checkpoints_are_refused(configured, tmp_path, capsys, record_property):
    stopped = stopped_after_two_epochs(configured(*CLINICAL), tmp_path / "stopped")
    tried = 0
    for name in ("truncated", "empty", "missing"):
        run = shutil.copytree(stopped, tmp_path / name)
        for file in (LAST, PREVIOUS):
            spoil(run / "fold-1" / file, DAMAGES[name])
        before = {path: path.stat().st_mtime_ns for path in run.rglob("*.c*")}
        code, (line,) = refusal(capsys, configured(*CLINICAL), run)
        assert code == 2
        assert line.startswith("error: fold 1: ")
        assert f"remove {run / 'fold-1'} " in line
        assert {path: path.stat().st_mtime_ns for path in run.rglob("*.c*")} == before
        tried += 1
    shutil.rmtree(run / "fold-1")
    cross_validate(configured(*CLINICAL), run)
    cross_validate(configured(*CLINICAL), tmp_path / "whole")
    assert outcome(run) == outcome(tmp_path / "whole")
    record_property("tried", tried)


@pytest.mark.promise(
    "the checkpoint of the epoch that the inner split chose is damaged or missing",
    "one line before any training, exit code 2; no other epoch is reported in its place",
)
def test_a_damaged_selected_checkpoint_is_refused(configured, tmp_path, capsys, record_property):
    words = [*CLINICAL, "data.inner_val_fraction=0.3", "optim=adam", "lr=1e-2"]
    stopped = stopped_after_two_epochs(configured(*words), tmp_path / "stopped")
    for name in ("truncated", "empty", "missing"):
        run = shutil.copytree(stopped, tmp_path / name)
        spoil(run / "fold-1" / SELECTED, DAMAGES[name])
        code, (line,) = refusal(capsys, configured(*words), run)
        assert code == 2
        assert str(run / "fold-1" / SELECTED) in line
        assert not (run / "fold-1" / "done.json").exists()
    record_property("tried", 3)


@pytest.mark.promise(
    "a finished fold's checkpoint is damaged when new patients are predicted",
    "one line names the fold and what to do, exit code 2, nothing is written; doing so mends it",
)
def test_a_finished_folds_damage_is_told_at_prediction(
    configured, tmp_path, capsys, record_property
):
    whole = tmp_path / "whole"
    cross_validate(configured(*CLINICAL), whole)
    for name in ("truncated", "empty", "missing"):
        run = shutil.copytree(whole, tmp_path / name)
        spoil(run / "fold-1" / LAST, DAMAGES[name])
        with pytest.raises(SystemExit) as left:
            predict(configured(), run)
        assert left.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"remove {run / 'fold-1'} " in line
        assert not (run / "test").exists()
        shutil.rmtree(run / "fold-1")
        cross_validate(configured(*CLINICAL), run)
        assert outcome(run) == outcome(whole)
        predict(configured(), run)
    record_property("tried", 3)


class Killed(BaseException):
    pass


def save(folder, epoch):
    AtomicCheckpointIO().save_checkpoint(
        {"epoch": epoch, "weight": torch.full((100,), float(epoch))}, folder / LAST
    )


@pytest.mark.promise(
    "a kill at each file operation of writing a checkpoint, and at each of falling back",
    "a good checkpoint is always found: of this epoch or the one before, never fewer",
)
def test_no_moment_of_a_save_leaves_fewer_than_one_good_checkpoint(tmp_path, record_property):
    tried = 0
    for step, after in ((step, after) for step in range(100) for after in (False, True)):
        folder = tmp_path / f"{step} {after}"
        folder.mkdir()
        save(folder, 0)
        save(folder, 1)
        left = dict.fromkeys(["steps"], step)

        def counted(operation, left=left, after=after):
            def call(*args, **options):
                left["steps"] -= 1
                if left["steps"] < 0 and not after:
                    raise Killed
                done = operation(*args, **options)
                if left["steps"] < 0:
                    raise Killed
                return done

            return call

        with pytest.MonkeyPatch.context() as patch:
            for module, names in ((os, ("replace", "fsync", "chmod")), (torch, ("save",))):
                for name in names:
                    patch.setattr(module, name, counted(getattr(module, name)))
            try:
                save(folder, 2)
                break
            except Killed:
                tried += 1
        start = find_resume_checkpoint(folder, fold=0)
        held = load_checkpoint(start.checkpoint)
        assert held["epoch"] in (1, 2)
        assert held["weight"].tolist() == [held["epoch"]] * 100
        save(folder, held["epoch"] + 1)
        assert load_checkpoint(folder / LAST)["epoch"] == held["epoch"] + 1
        (folder / LAST).write_bytes(b"")
        assert (
            load_checkpoint(find_resume_checkpoint(folder, 0).checkpoint)["epoch"] == held["epoch"]
        )
    assert tried >= 20
    record_property("tried", tried)


def test_a_good_checkpoint_is_gone_on_from_without_a_word(tmp_path):
    save(tmp_path, 0)
    assert find_resume_checkpoint(tmp_path, 0) == (tmp_path / LAST, None)


def test_a_second_fall_is_no_way_back_to_the_damaged_one(tmp_path):
    for epoch in range(3):
        save(tmp_path, epoch)
    (tmp_path / LAST).write_bytes(b"damaged")
    assert load_checkpoint(find_resume_checkpoint(tmp_path, 0).checkpoint)["epoch"] == 1
    assert find_resume_checkpoint(tmp_path, 0).notice is None
    (tmp_path / LAST).write_bytes(b"damaged again")
    with pytest.raises(InputError, match=r"previous.ckpt is missing"):
        find_resume_checkpoint(tmp_path, 0)


def test_a_finished_fold_keeps_no_second_checkpoint(configured, tmp_path):
    cross_validate(configured(*CLINICAL), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run" / "fold-0").iterdir()}
    assert {LAST, f"{LAST}.sha256"} <= names
    assert not {PREVIOUS, f"{PREVIOUS}.sha256"} & names
