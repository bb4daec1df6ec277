"""Learning rate schedules that torch.optim lacks."""

from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_with_warmup(optimizer: Optimizer, epochs: int, warmup_epochs: int) -> LambdaLR:
    """Rise linearly over `warmup_epochs`, then fall along half a cosine. Raises ValueError."""
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(f"warmup_epochs is {warmup_epochs}; must be >= 0 and < {epochs} epochs")

    def factor(epoch: int) -> float:
        if epoch < warmup_epochs:
            return (epoch + 1) / (warmup_epochs + 1)
        return (1 + cos(pi * (epoch - warmup_epochs) / (epochs - warmup_epochs))) / 2

    return LambdaLR(optimizer, factor)
