"""The whole network: every part is trained in every combination, and bags do not interact."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lymphoml.models.fusion import ClinicalOnly
from lymphoml.models.mil import MILModel, drop_instances
from lymphoml.models.pooling import Mean
from tests.models.options import FITTED, FUSIONS, POOLINGS, SELECT, make_fusion, make_pooling

LENGTHS = torch.tensor([3, 1, 2, 4])
LABEL = torch.tensor([1.0, 0.0, 0.0, 1.0])
EVERY_PART = [(pooling, "mixture") for pooling in POOLINGS] + [
    ("attention", fusion) for fusion in FUSIONS if fusion != "mixture"
]


class TinyEncoder(nn.Sequential):
    dim = 12

    def __init__(self) -> None:
        conv = nn.Conv2d(3, self.dim, kernel_size=3, stride=3)
        super().__init__(conv, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def make_model(pooling="mean", fusion="concat", dropout=0.0) -> MILModel:
    torch.manual_seed(0)
    if fusion == "clinical":
        return MILModel(None, None, ClinicalOnly(0, 2))
    encoder = TinyEncoder()
    made = make_pooling(pooling, encoder.dim)
    return MILModel(encoder, made, make_fusion(fusion, made.dim, 2), dropout)


def make_inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    tint = torch.rand(int(LENGTHS.sum()), 3, 1, 1)
    return tint * torch.rand(len(tint), 3, 6, 6), torch.randn(len(LENGTHS), 2)


def train(model: MILModel, optimizer: torch.optim.Optimizer, inputs, steps: int) -> float:
    images, clinical = inputs
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(images, LENGTHS, clinical), LABEL)
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize(("pooling", "fusion"), EVERY_PART)
def test_every_parameter_learns(pooling, fusion):
    model = make_model(pooling, fusion)
    # From the second step on: what starts at 0 lets no gradient through in the first.
    train(model, torch.optim.SGD(model.parameters(), lr=0.5), make_inputs(), steps=2)
    fixed = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    fitted = {"additive": ("clinical",)} | dict.fromkeys(FITTED, ("clinical", "image"))
    parts = fitted.get(fusion, ())
    assert fixed == {f"fusion.{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    for name, parameter in model.named_parameters():
        if name not in fixed:
            assert parameter.grad is not None, name
            assert (parameter.grad != 0).all(), name


@pytest.mark.parametrize(("pooling", "fusion"), EVERY_PART)
@torch.no_grad()
def test_every_input_changes_its_own_bag_alone(pooling, fusion):
    model, (images, clinical) = make_model(pooling, fusion).eval(), make_inputs()
    for parameter in model.fusion.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)  # some start at 0
    logits = model(images, LENGTHS, clinical)
    bag_of = torch.arange(len(LENGTHS)).repeat_interleave(LENGTHS)
    reached = torch.zeros(len(LENGTHS), dtype=torch.bool)
    for image in range(len(images)):
        other = images.clone()
        other[image] = other[image].flip(0)  # channels
        changed = model(other, LENGTHS, clinical) != logits
        own = torch.arange(len(LENGTHS)) == bag_of[image]
        assert not changed[~own].any()
        assert changed[own] or pooling in SELECT or fusion == "clinical"
        reached |= changed
    assert reached.tolist() == [fusion != "clinical"] * len(LENGTHS)
    for bag, column in itertools.product(range(4), range(2)):
        patients = clinical.clone()
        patients[bag, column] += 0.5
        changed = model(images, LENGTHS, patients) != logits
        assert changed.tolist() == [fusion != "none" and i == bag for i in range(4)]


@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "clinical"])
def test_autocast_encodes_in_half_and_decides_in_single_precision(fusion):
    model, (images, clinical) = make_model("attention", fusion), make_inputs()
    reference = model(images, LENGTHS, clinical)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.embed(images).dtype == torch.bfloat16
        logits = model(images, LENGTHS, clinical)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, reference, atol=0.02, rtol=0.02)
    logits.sum().backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad.isfinite().all() for parameter in trained)


@pytest.mark.parametrize("fusion", ["none", "mixture", "product"])
def test_one_number_an_image_is_no_logit(fusion):
    """A pooling of scores gives one; the mean of a single feature does not."""
    with pytest.raises(ValueError, match="takes for a logit"):
        MILModel(TinyEncoder(), Mean(1), make_fusion(fusion, 1, 2))


@torch.no_grad()
def test_clinical_only_needs_no_images():
    model, (images, clinical) = make_model(fusion="clinical"), make_inputs()
    none = torch.empty(0, 3, 1, 1)
    assert torch.equal(model(none, LENGTHS, clinical), model(images, LENGTHS, clinical))
    assert [name for name, _ in model.named_children()] == ["fusion"]


def test_instance_dropout_drops_the_fraction_it_says_and_never_a_whole_bag():
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 3] * 500)
    features = torch.arange(3000.0).unsqueeze(1)
    kept, kept_lengths = drop_instances(features, lengths, 0.4)
    assert kept_lengths.min() == 1
    assert kept_lengths.sum() == len(kept)
    bags = features.split(lengths.tolist())
    for kept_bag, bag in zip(kept.split(kept_lengths.tolist()), bags, strict=True):
        assert set(kept_bag.flatten().tolist()) <= set(bag.flatten().tolist())
    # A bag of m keeps m (1 - p) on average, and one where it would lose all.
    expected = torch.tensor([m * 0.6 + 0.4**m for m in (1, 2, 3)]).mean() * 1500
    assert kept_lengths.sum().item() == pytest.approx(expected.item(), rel=0.03)


def test_instance_dropout_is_of_training_alone_and_of_the_global_seed():
    (images, clinical), lengths = make_inputs(), torch.tensor([10])
    model, plain = make_model(dropout=0.5), make_model()
    bag = (images, lengths, clinical[:1])
    assert torch.equal(model.eval()(*bag), plain.eval()(*bag))
    logits = []
    for seed in (1, 1, 2, 3):
        torch.manual_seed(seed)
        logits.append(model.train()(*bag).item())
    assert logits[0] == logits[1]
    assert len(set(logits)) > 1
    with pytest.raises(ValueError, match=r"instance_dropout is 1\.0; must be >= 0"):
        make_model(dropout=1.0)
