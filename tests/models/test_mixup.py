"""Bags of a step are blended with each other, everything of a patient in the same share."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from lymphoml.core.types import Batch
from lymphoml.models.bag_augmentation import Mixup, draw_mixup
from lymphoml.models.build import build_model
from lymphoml.training.lightning_module import BagClassifier
from tests.cli.test_config import configured

LENGTHS = torch.tensor([2, 1, 3])
HALVES = Mixup(torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.75, 0.0]))


def test_a_blend_keeps_its_share_and_takes_the_rest():
    values = torch.tensor([[0.0, 8.0], [4.0, 0.0], [8.0, 4.0]])
    assert HALVES(values).tolist() == [[0.0, 8.0], [5.0, 1.0], [0.0, 8.0]]
    assert HALVES(torch.tensor([0.0, 1.0, 0.0])).tolist() == [0.0, 0.75, 0.0]


def test_shares_are_of_a_beta_and_partners_a_permutation():
    torch.manual_seed(0)
    drawn = draw_mixup(20_000, 0.4)
    assert drawn.partner.sort().values.tolist() == list(range(20_000))
    assert drawn.kept.mean().item() == pytest.approx(0.5, abs=0.01)
    # The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
    assert drawn.kept.var().item() == pytest.approx(1 / 7.2, abs=0.005)
    torch.manual_seed(0)
    assert torch.equal(draw_mixup(20_000, 0.4).kept, drawn.kept)


@pytest.mark.parametrize("fusion", ["additive", "concat", "mixture", "clinical"])
def test_the_fusion_sees_blends_of_bags_and_clinical_values(fusion):
    spec = configured("model/encoder=morphology", "model/pooling=mean_std",
                      f"model/fusion={fusion}")["model"]  # fmt: skip
    spec["encoder"]["dim"] = 5
    torch.manual_seed(0)
    model = build_model(spec, clinical_dim=2)
    for parameter in model.fusion.parameters():
        torch.nn.init.normal_(parameter)
    features = None if fusion == "clinical" else torch.randn(6, 5)
    clinical = torch.randn(3, 2)
    bag = None if features is None else HALVES(model.pooling(features, LENGTHS))
    expected = model.fusion(bag, HALVES(clinical))
    blended = model.classify(features, LENGTHS, clinical, HALVES)
    torch.testing.assert_close(blended, expected)
    plain = model.classify(features, LENGTHS, clinical)
    assert not torch.allclose(blended, plain)
    if fusion in ("additive", "concat"):  # linear: the fitted clinical logit is blended as well
        torch.testing.assert_close(blended, HALVES(plain))


@pytest.fixture
def trained(monkeypatch):
    """The losses of one training step and of validation, with some choices of training."""
    batch = Batch(
        torch.empty(0, 3, 1, 1), LENGTHS, torch.tensor([[1.0], [-2.0], [0.5]]),
        torch.tensor([1.0, 0.0, 1.0]), ("A", "B", "C"),
    )  # fmt: skip

    def step(**choices):
        config = configured("model/fusion=clinical")
        torch.manual_seed(0)
        module = BagClassifier(config["model"], config["optim"], None, 1, 3.0, **choices)
        monkeypatch.setattr(
            type(module), "trainer", type("Trainer", (), {"is_last_batch": False})()
        )
        monkeypatch.setattr(type(module), "current_epoch", 0)
        module.on_train_epoch_start()
        torch.manual_seed(7)
        module.training_step(batch, 0)
        module.validation_step(batch, 0)
        return module, batch, module._losses[0], module.val_loss[0].compute()

    return step


def test_smoothing_moves_labels_in_training_alone(trained):
    module, batch, losses, validation = trained(label_smoothing=0.2)
    logits, weight = module(batch), torch.tensor(3.0)
    smooth = torch.tensor([0.9, 0.1, 0.9])
    expected = binary_cross_entropy_with_logits(logits, smooth, reduction="none", pos_weight=weight)
    torch.testing.assert_close(losses, expected.detach())
    plain = binary_cross_entropy_with_logits(logits, batch.label, pos_weight=weight)
    assert validation.item() == pytest.approx(plain.item(), rel=1e-6)


def test_labels_are_blended_as_their_bags(trained):
    module, batch, losses, validation = trained(bag_mixup=0.7, label_smoothing=0.1)
    torch.manual_seed(7)
    mixup = draw_mixup(3, 0.7)
    logits = module.model.fusion(None, mixup(batch.clinical))
    label = 0.9 * mixup(batch.label) + 0.05
    weight = torch.tensor(3.0)
    expected = binary_cross_entropy_with_logits(logits, label, reduction="none", pos_weight=weight)
    torch.testing.assert_close(losses, expected.detach())
    plain = binary_cross_entropy_with_logits(module(batch), batch.label, pos_weight=weight)
    assert validation.item() == pytest.approx(plain.item(), rel=1e-6)
