import subprocess

import pytest
import torch

from lymphoml.training.checkpoint import AtomicCheckpointIO, load_checkpoint
from lymphoml.training.checkpoint_schema import validate_checkpoint

COLUMN = {"kind": "numeric", "log": False}
CLINICAL = {
    "columns": {"age": COLUMN}, "fill": {}, "mean": [50.0], "scale": [10.0], "constant": [],
}  # fmt: skip
DATA = {
    "next_epoch": 1, "clinical": CLINICAL, "schema": {}, "image_size": None, "features": None,
    "ranges": {"age": {"missing": 0.0, "low": 1.0, "high": 3.0, "quantiles": [1.0, 2.0, 3.0]}},
}  # fmt: skip
MODEL = {"_target_": "x", "encoder": {"dim": 3}, "instance_dropout": 0.0}
FOLD = {
    "epoch": 0,
    "state_dict": {"weight": torch.zeros(2)},
    "hyper_parameters": {
        "model": MODEL, "optim": {}, "scheduler": None, "clinical_dim": 2, "feature_dim": None,
        "pos_weight": None,
    },
    "BagDataModule": DATA,
    "callbacks": {"History": {"rows": [{"epoch": 0, "val/loss": None}], "seconds": 1.5}},
}  # fmt: skip


def test_round_trip_and_a_digest_that_sha256sum_understands(tmp_path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 3, "weight": torch.arange(4.0)}, path)
    loaded = load_checkpoint(path)
    assert loaded["epoch"] == 3
    assert loaded["weight"].tolist() == [0, 1, 2, 3]
    words = ["sha256sum", "--check", "--quiet", "last.ckpt.sha256"]
    assert subprocess.run(words, cwd=tmp_path).returncode == 0


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def test_a_checkpoint_has_its_schema():
    validate_checkpoint(FOLD)
    features = {"names": ["a", "b"], "mean": [1.0, 2.0], "scale": [1.0, 1.0], "weights": []}
    validate_checkpoint(FOLD | {"BagDataModule": DATA | {"features": features}})
    for change in (
        {"BagDataModule": DATA | {"other": None}},
        {"BagDataModule": DATA | {"clinical": CLINICAL | {"fill": {"sex": "f"}}}},
        {"BagDataModule": DATA | {"clinical": CLINICAL | {"mean": [float("inf")]}}},
        {"BagDataModule": DATA | {"features": features | {"names": ["a", "a"]}}},
        {"BagDataModule": DATA | {"features": features | {"weights": [1.0]}}},
        {"hyper_parameters": FOLD["hyper_parameters"] | {"clinical_dim": -1}},
        {"hyper_parameters": FOLD["hyper_parameters"] | {"model": MODEL | {"x": deep(10_000)}}},
        {"callbacks": {"History": {"rows": [{"=1+1": 1.0}], "seconds": 0.0}}},
        {"state_dict": {"weight": "text"}},
    ):
        with pytest.raises(ValueError, match=r".") as caught:
            validate_checkpoint(FOLD | change)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
