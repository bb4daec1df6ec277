"""Images that stay in the device's memory: the same bits, or one line."""

import pandas as pd
import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.data.device_store import DeviceStore
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.training import hardware
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import LAST, load_checkpoint
from tests.promises.jobs import outcome

WORDS = ("fold=0", "optim=adam", "data.augment.flip=true", "data.augment.stain_jitter=0.1",
         "data.train_bag_size=3", "data.eval_bag_size=4", "data.batch_size=3",
         "data.inner_val_fraction=0.3", "trainer.max_epochs=2")  # fmt: skip
ON = ("data.device_cache=true", "data.num_workers=1")  # which need not start


def test_a_run_goes_on_with_resident_images_to_the_same_bits(configured, tmp_path, monkeypatch):
    """Augmented, several patients a step, images drawn, an inner split: all that looks bags up."""
    cross_validate(configured(*WORDS), tmp_path / "plain")
    started, taken, take = History.on_train_epoch_start, [], DeviceStore.take
    monkeypatch.setattr(History, "on_train_epoch_start", lambda *a: (
        exit(130) if a[1].current_epoch == 1 else started(*a)))  # fmt: skip
    with pytest.raises(SystemExit):
        cross_validate(configured(*WORDS), tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr(DeviceStore, "take", lambda *a: taken.append(len(a[1])) or take(*a))
    cross_validate(configured(*WORDS, *ON), tmp_path / "run")
    assert max(taken) > 4 >= min(taken)
    images = pd.read_csv(tmp_path / "run" / "fold-0" / "instances.csv")
    assert images.groupby("patient").size().le(4).all()  # those that were drawn
    assert outcome(tmp_path / "run") == outcome(tmp_path / "plain")
    files = [tmp_path / each / "fold-0" / LAST for each in ("plain", "run")]
    plain, run = (load_checkpoint(file)["state_dict"] for file in files)
    assert all(torch.equal(value, run[name]) for name, value in plain.items())
    assert "device_cache" not in (tmp_path / "run" / "config.yaml").read_text()
    monkeypatch.setattr(hardware, "free_bytes", lambda *_: 100_000)
    with pytest.raises(
        InputError, match=r"device_cache=true: the images need 1\d\d\.\d kB, and 10"
    ):
        cross_validate(configured(*WORDS, *ON), tmp_path / "small")
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize(("cache", "cuda", "free", "kept"), [
    ("auto", True, 200, True), ("auto", True, 199, False), ("auto", False, 10**9, False),
    (False, True, 10**9, False), (True, True, 100, True), (True, False, None, True),
])  # fmt: skip
def test_auto_keeps_them_in_half_of_a_gpus_free_memory(
    cache, cuda, free, kept, monkeypatch, capsys
):
    monkeypatch.setattr(hardware, "free_bytes", lambda *_: free)
    resolved = hardware.Resolved("32-true", 1, None, cuda, "GPU")
    assert hardware.keeps_images(cache, 100, resolved) == kept
    assert ("they are loaded at each step" in capsys.readouterr().out) == (free == 199)
