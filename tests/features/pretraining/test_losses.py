"""Each method against its equation."""

import pytest
import torch
from torch.nn import functional as F

from lymphoml.cli.config import pretrain_config
from lymphoml.core.errors import InputError
from lymphoml.features.pretraining.objective import simclr, vicreg


def test_simclr_is_equation_1():
    torch.manual_seed(0)
    projected = torch.randn(10, 128)
    cosines = F.cosine_similarity(projected[:, None], projected[None], dim=2) / 0.2
    expected = 0.0
    for row in range(10):
        others = [cosines[row, column] for column in range(10) if column != row]
        expected -= cosines[row, (row + 5) % 10] - torch.stack(others).logsumexp(0)
    found = simclr(*projected.chunk(2), temperature=0.2)
    assert found == pytest.approx(float(expected) / 10, rel=1e-5)


def test_vicreg_is_equation_6():
    torch.manual_seed(0)
    one, other = torch.randn(12, 5), 0.3 * torch.randn(12, 5)

    def variance(batch):
        return torch.relu(1 - (batch.var(0) + 1e-4).sqrt()).mean()

    def covariance(batch):
        centred = batch - batch.mean(0)
        squares = (centred.T @ centred / 11).square()
        return (squares.sum() - squares.diagonal().sum()) / 5

    expected = (
        2.0 * (one - other).square().mean()
        + 3.0 * (variance(one) + variance(other)) / 2
        + 5.0 * (covariance(one) + covariance(other))
    )
    assert vicreg(one, other, 2.0, 3.0, 5.0) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("method", "changes"),
    [("simclr", {"margin": 1.0}), ("vicreg", {"margin": 1.0}), ("simclr", {"temperature": 0.0})],
)
def test_a_setting_that_a_method_does_not_have_is_refused(method, changes):
    with pytest.raises(InputError, match=rf"pretrain\.loss=.* of {method}: must have"):
        pretrain_config(method, "resnet10_quarter", {"loss": changes}, {})
