"""The loss and the predictions of a step."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn import BCELoss
from torch.nn.functional import binary_cross_entropy_with_logits

from lymphoml.core.types import Batch
from lymphoml.training.lightning_module import BagClassifier, bce_of_probabilities

MODEL = {"_target_": "lymphoml.models.mil.MILModel", "encoder": {}, "pooling": {},
         "fusion": {"_target_": "lymphoml.models.fusion.ClinicalOnly"}}  # fmt: skip


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


def test_the_loss_of_probabilities_is_bceloss_without_gradient_where_the_sigmoid_saturates():
    label, values = torch.tensor([0.0, 0, 1, 1, 0, 0, 0, 1, 1]), [-200, -90, -18, 0, 3, 18, 200]
    logits, same = (torch.tensor([*values, 200.0, -200]).requires_grad_() for _ in range(2))
    losses, expected = bce_of_probabilities(logits, label), BCELoss(reduction="none")
    assert torch.equal(losses, expected(torch.sigmoid(same), label))
    losses.sum().backward()
    expected(torch.sigmoid(same), label).sum().backward()
    assert torch.equal(logits.grad, same.grad)
    assert logits.grad[5:].tolist() == [0] * 4  # of a wrong logit of 18 or 200, and of -200
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(bce_of_probabilities(logits, label), losses)
    found = bce_of_probabilities(torch.tensor([torch.nan, 0]), label[:2])
    assert found.isnan().tolist() == [True, False]  # which training then names


def test_views_give_the_mean_logit_of_bags_and_of_images(monkeypatch):
    module = BagClassifier(MODEL, {"_target_": "torch.optim.SGD"}, None, 1)
    values = torch.tensor([1.0, -3.0, 2.0])  # of three images; a bag's logit is their mean
    monkeypatch.setattr(BagClassifier, "embed", lambda self, batch, view: view(values))
    monkeypatch.setattr(module.model, "classify", lambda features, lengths, clinical: torch.stack(
        [bag.mean() for bag in features.split(lengths.tolist())]))  # fmt: skip
    views = SimpleNamespace(tta_views=[abs, torch.zeros_like])
    monkeypatch.setattr(BagClassifier, "trainer", SimpleNamespace(datamodule=views))
    label = torch.tensor([1.0, 0.0])
    batch = Batch(
        torch.empty(3, 3, 1, 1), torch.tensor([2, 1]), torch.zeros(2, 1), label, ("A", "B")
    )
    found = module.predict_step(batch, 0)
    torch.testing.assert_close(torch.logit(found.images), torch.tensor([0.5, 1.5, 1.0]))
    torch.testing.assert_close(torch.logit(found.bags), torch.ones(2))
    module.validation_step(batch, 0)
    loss = binary_cross_entropy_with_logits(torch.ones(2), label).item()
    assert module.val_metrics[0]["loss"].compute().item() == pytest.approx(loss)
