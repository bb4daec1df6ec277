"""What the images alone say, as a logit."""

from torch import nn


def image_expert(image_dim: int) -> nn.Module:
    """A linear layer over the bag (b d -> b 1); nothing where the pooling gives one logit already.

    A layer there could turn the sign of an instance's score, and with it the assumption that a
    positive instance makes a bag positive.
    """
    return nn.Identity() if image_dim == 1 else nn.Linear(image_dim, 1)
