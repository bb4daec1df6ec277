"""Learning rates that torch.optim has no single scheduler for."""

from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_with_warmup(optimizer: Optimizer, epochs: int, warmup_epochs: int) -> LambdaLR:
    """Up in equal steps over `warmup_epochs`, then down along half a cosine, a step an epoch.

    The top is reached once, in the first epoch after the warm-up. Without warm-up it is
    CosineAnnealingLR. Raises ValueError where no epoch is left after the warm-up.
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(
            f"warmup_epochs is {warmup_epochs}; allowed is 0 to below the {epochs} epochs"
        )

    def share(epoch: int) -> float:
        if epoch < warmup_epochs:
            return (epoch + 1) / (warmup_epochs + 1)
        return (1 + cos(pi * (epoch - warmup_epochs) / (epochs - warmup_epochs))) / 2

    return LambdaLR(optimizer, share)
