import os

import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.training.checkpoint import AtomicCheckpointIO, find_resume_checkpoint, load_checkpoint
from lymphoml.training.checkpoint_schema import validate_checkpoint


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 3, "weight": torch.arange(4.0)}, path)
    return path


def test_round_trip_and_a_sidecar_that_sha256sum_understands(path):
    loaded = load_checkpoint(path)
    assert loaded["epoch"] == 3
    assert loaded["weight"].tolist() == [0, 1, 2, 3]
    assert os.system(f"cd {path.parent} && sha256sum --check --quiet last.ckpt.sha256") == 0


@pytest.mark.parametrize("spoil", [
    lambda b: b[:-9], lambda b: bytes([b[0] ^ 1]) + b[1:], lambda b: b + b"x",
])  # fmt: skip
def test_any_damage_is_refused(path, spoil):
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"last.ckpt differs from its last.ckpt.sha256"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_checkpoint_whole(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        AtomicCheckpointIO().save_checkpoint({"epoch": 4}, path)
    assert load_checkpoint(path)["epoch"] == 3
    assert sorted(p.name for p in path.parent.iterdir()) == ["last.ckpt", "last.ckpt.sha256"]


@pytest.mark.parametrize("moment", ["before the move", "after the move"])
def test_killed_around_the_move_either_file_is_recognised(path, monkeypatch, moment):
    replace = os.replace

    def killed(source, target):
        if str(target).endswith("last.ckpt"):
            if moment == "after the move":
                replace(source, target)
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({"epoch": 4}, path)
    monkeypatch.undo()
    start = find_resume_checkpoint(path.parent, fold=0)
    assert load_checkpoint(start.checkpoint)["epoch"] == (4 if moment == "after the move" else 3)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    AtomicCheckpointIO().save_checkpoint({"x": Payload()}, tmp_path / "bad.ckpt")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "canary").exists()


def test_a_missing_file_or_sidecar_is_named(path):
    (path.parent / "last.ckpt.sha256").unlink()
    with pytest.raises(InputError, match=r"last.ckpt.sha256 is missing"):
        load_checkpoint(path)


def test_a_data_modules_state_has_exactly_its_keys():
    column = {"kind": "numeric", "log": False}
    clinical = {"columns": {"age": column}, "fill": {}, "mean": [50.0], "scale": [10.0]}
    data = {"next_epoch": 1, "clinical": clinical, "schema": {}, "image_size": None}
    data["features"] = None
    validate_checkpoint({"BagDataModule": data})
    with pytest.raises(ValueError, match="does not hold"):
        validate_checkpoint({"BagDataModule": data | {"other": None}})
