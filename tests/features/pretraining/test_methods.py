"""Each method against its equation, and against a batch that it should like."""

import pytest
import torch
from torch.nn import functional as F

from lymphoml.core.errors import InputError
from lymphoml.features.pretraining.methods import CLASSES, make_method

LOSSES = {
    "simclr": {"temperature": 0.2},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0},
    "autoencoder": {"width": 4},
}


def made(method, size=(32, 32), **changes):
    torch.manual_seed(0)
    return make_method({"method": method, "loss": LOSSES[method] | changes}, 8, size)


def test_simclr_is_equation_1():
    projected = torch.randn(10, 128)
    cosines = F.cosine_similarity(projected[:, None], projected[None], dim=2) / 0.2
    expected = 0.0
    for row in range(10):
        others = [cosines[row, column] for column in range(10) if column != row]
        expected -= cosines[row, (row + 5) % 10] - torch.stack(others).logsumexp(0)
    assert made("simclr").loss(projected, None) == pytest.approx(float(expected) / 10, rel=1e-5)


def test_vicreg_is_equation_6():
    one, other = torch.randn(12, 5), 0.3 * torch.randn(12, 5)

    def variance(batch):
        return torch.relu(1 - (batch.var(0) + 1e-4).sqrt()).mean()

    def covariance(batch):
        return (torch.cov(batch.T) * (1 - torch.eye(5))).square().sum() / 5

    expected = (
        2.0 * (one - other).square().mean()
        + 3.0 * (variance(one) + variance(other)) / 2
        + 5.0 * (covariance(one) + covariance(other))
    )
    method = made("vicreg", invariance=2.0, variance=3.0, covariance=5.0)
    assert method.loss(torch.cat([one, other]), None) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (20, 30), (3, 3), (4, 4)])
def test_the_autoencoder_draws_images_of_the_size_it_saw(size):
    method = made("autoencoder", size)
    drawn = method.head(torch.randn(2, 8))
    assert drawn.shape == (2, 3, *size)
    assert method.loss(drawn, drawn.detach()) == 0


@pytest.mark.parametrize("method", CLASSES)
def test_a_setting_that_a_method_does_not_have_is_refused(method):
    with pytest.raises(InputError, match=rf"pretrain\.loss=.* of {method}.*margin"):
        made(method, margin=1.0)


def test_a_temperature_of_nothing_is_refused():
    with pytest.raises(InputError, match=r"pretrain\.loss=.*temperature"):
        made("simclr", temperature=0.0)
