"""Methods that compare two views of each cell; losses are lightly's."""

from lightly.loss import NTXentLoss, VICRegLoss
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn

HIDDEN = 256  # features between the encoder and what is compared
COMPARED = {"simclr": 128, "vicreg": 256}  # features


class SimCLR(nn.Module):
    """The two views of a cell are nearer to each other than to any other view in the batch.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations",
    equation 1, of cosines over `temperature`.
    """

    views = 2

    def __init__(self, dim: int, size: tuple[int, int], temperature: float):
        super().__init__()
        self.head = _projection(dim, COMPARED["simclr"])
        self.contrast = NTXentLoss(temperature)

    def loss(self, projected: Tensor, views: Tensor) -> Tensor:
        return self.contrast(*projected.chunk(2))


class VICReg(nn.Module):
    """Two views agree, each feature varies over the batch, no two features say the same.

    Bardes et al. 2022, "VICReg: Variance-Invariance-Covariance Regularization", equation 6.
    """

    views = 2

    def __init__(
        self,
        dim: int,
        size: tuple[int, int],
        invariance: float,
        variance: float,
        covariance: float,
    ):
        super().__init__()
        self.head = _projection(dim, COMPARED["vicreg"])
        self.terms = VICRegLoss(invariance, variance, covariance)

    def loss(self, projected: Tensor, views: Tensor) -> Tensor:
        return self.terms(*projected.chunk(2))


def _projection(dim: int, out: int) -> nn.Module:
    """Thrown away after pretraining."""
    hidden = nn.BatchNorm1d(HIDDEN), nn.ReLU()
    return ProjectionHead([(dim, HIDDEN, *hidden), (HIDDEN, out, None, None)])
