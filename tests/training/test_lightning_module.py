"""The loss that a training step and validation compute."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from lymphoml.core.types import Batch
from lymphoml.training.lightning_module import BagClassifier

MODEL = {
    "_target_": "lymphoml.models.mil.MILModel",
    "encoder": {},
    "pooling": {},
    "fusion": {"_target_": "lymphoml.models.fusion.ClinicalOnly"},
}


def test_smoothing_moves_labels_in_training_alone(monkeypatch):
    batch = Batch(
        torch.empty(0, 3, 1, 1), torch.tensor([2, 1, 3]), torch.tensor([[1.0], [-2.0], [0.5]]),
        torch.tensor([1.0, 0.0, 1.0]), ("A", "B", "C"),
    )  # fmt: skip
    module = BagClassifier(
        MODEL, {"_target_": "torch.optim.SGD"}, None, 1, pos_weight=3.0, label_smoothing=0.2
    )
    views = SimpleNamespace(transform=abs, tta_views=[abs])  # of no images
    trainer = SimpleNamespace(is_last_batch=False, datamodule=views)
    monkeypatch.setattr(BagClassifier, "trainer", trainer)
    monkeypatch.setattr(BagClassifier, "current_epoch", 0)
    module.on_train_epoch_start()
    loss = module.training_step(batch, 0)
    module.validation_step(batch, 0)
    logits, weight = module(batch), torch.tensor(3.0)
    smooth = torch.tensor([0.9, 0.1, 0.9])
    torch.testing.assert_close(
        loss, binary_cross_entropy_with_logits(logits, smooth, pos_weight=weight)
    )
    plain = binary_cross_entropy_with_logits(logits, batch.label, pos_weight=weight)
    assert module.val_metrics[0]["loss"].compute().item() == pytest.approx(plain.item(), rel=1e-6)
