"""Reductions over the segments of a ragged batch: of `n` instances, bag `i` has `lengths[i]`.

A loop over bags is as fast as `torch.segment_reduce` at the width of an encoder's features, gives a
bag the same bits alone as in a batch, and is deterministic on a GPU. `lengths` is on the CPU and
must sum to `n`. Half precision is reduced in single precision. Bags are not empty.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lymphoml.core.types import Bags, Features, Lengths


def segment_sum(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.sum(0))


def segment_mean(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.mean(0))


def segment_variance(values: Features, mean: Bags, lengths: Lengths) -> Bags:
    """Return the mean squared distance from `mean`, that of each bag."""
    own_mean = torch.repeat_interleave(mean, lengths.to(mean.device), dim=0)
    return segment_mean((values - own_mean).square(), lengths)


def segment_max(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    """Return the maximum; instances that tie for it share its gradient evenly."""
    return _reduce(values, lengths, lambda bag: bag.amax(0))


def segment_logsumexp(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.logsumexp(0))


def segment_logmeanexp(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.logsumexp(0) - math.log(len(bag)))


def segment_quantiles(
    values: Float[Tensor, "n *d"], lengths: Lengths, levels: Sequence[float]
) -> Float[Tensor, "b q *d"]:
    """Return the smallest value that at least a fraction `level` of the bag does not exceed."""

    def quantiles(bag: Tensor) -> Tensor:
        # Levels are not binary fractions: 0.14 * 50 is slightly above 7, and means 7.
        ranks = [max(math.ceil(level * len(bag) - 1e-6), 1) - 1 for level in levels]
        return bag.sort(0).values[ranks]

    return _reduce(values, lengths, quantiles)


def segment_top_mean(
    values: Float[Tensor, "n *d"], lengths: Lengths, fraction: float
) -> Float[Tensor, "b *d"]:
    """Return the mean of the highest `fraction` of the bag, at least one; the last in part."""

    def top_mean(bag: Tensor) -> Tensor:
        kept = max(fraction * len(bag), 1.0)
        ranked = bag.sort(0, descending=True).values[: math.ceil(kept)]
        ranks = torch.arange(len(ranked), device=bag.device, dtype=bag.dtype)
        weights = (kept - ranks).clamp(max=1) / kept
        return (weights.view(-1, *[1] * (bag.dim() - 1)) * ranked).sum(0)

    return _reduce(values, lengths, top_mean)


def segment_softmax(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "n *d"]:
    """Return the softmax over each bag, which sums to one there."""
    return torch.cat([bag.softmax(0) for bag in _split(values, lengths)])


def at_least_single(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return half precision as single, double as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _reduce(values: Tensor, lengths: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([reduce(bag) for bag in _split(values, lengths)])


def _split(values: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return at_least_single(values).split(lengths.tolist())
