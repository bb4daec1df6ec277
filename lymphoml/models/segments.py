"""Reductions over the segments of a ragged batch: of `n` instances, bag `i` has `lengths[i]`.

A loop over bags is as fast as `torch.segment_reduce` at the width of an encoder's features, gives a
bag the same bits alone as in a batch, and is deterministic on a GPU. `lengths` is on the CPU and
must sum to `n`. Half precision is reduced in single precision. Bags are not empty.
"""

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
    return segment_mean((values - repeat(mean, lengths, values)).square(), lengths)


def segment_max(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    """Return the maximum; instances that tie for it share its gradient evenly."""
    return _reduce(values, lengths, lambda bag: bag.amax(0))


def segment_logsumexp(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.logsumexp(0))


def segment_logmeanexp(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.logsumexp(0) - _count(bag).log())


def segment_quantiles(
    values: Float[Tensor, "n *d"], lengths: Lengths, levels: Sequence[float]
) -> Float[Tensor, "b q *d"]:
    """Return the smallest value that at least a fraction `level` of the bag does not exceed."""

    def quantiles(bag: Tensor) -> Tensor:
        # Levels are not binary fractions: 0.14 * 50 is slightly above 7, and means 7.
        wanted = torch.tensor(levels, dtype=torch.float64) * _count(bag) - 1e-6
        return bag.sort(0).values[wanted.ceil().clamp(min=1).long() - 1]

    return _reduce(values, lengths, quantiles)


def segment_top_mean(
    values: Float[Tensor, "n *d"], lengths: Lengths, fraction: float
) -> Float[Tensor, "b *d"]:
    """Return the mean of the highest `fraction` of the bag, at least one; the last in part."""

    def top_mean(bag: Tensor) -> Tensor:
        kept = (fraction * _count(bag)).clamp(min=1)
        ranks = torch.arange(bag.shape[0], dtype=torch.float64)
        counts = ranks < kept
        weights = (kept - ranks[counts].to(bag)).clamp(max=1) / kept
        ranked = bag.sort(0, descending=True).values[counts]
        return (weights.view(-1, *[1] * (bag.dim() - 1)) * ranked).sum(0)

    return _reduce(values, lengths, top_mean)


def segment_softmax(values: Float[Tensor, "n *d"], lengths: Lengths) -> Float[Tensor, "n *d"]:
    """Return the softmax over each bag, which sums to one there."""
    return torch.cat([bag.softmax(0) for bag in split(values, lengths)])


def repeat(values: Tensor, lengths: Lengths, instances: Tensor) -> Tensor:
    """Return each bag's row of `values` for each of its `instances` (n ...)."""
    places = torch.arange(instances.shape[0], device=values.device).unsqueeze(1)
    return values.index_select(0, (places >= lengths.cumsum(0).to(values.device)).sum(1))


def at_least_single(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Return half precision as single, double as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _reduce(values: Tensor, lengths: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([reduce(bag) for bag in split(values, lengths)])


def split(values: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    """Return each bag's rows, in single precision at least; a single bag's may be any number."""
    values = at_least_single(values)
    return (values,) if len(lengths) == 1 else values.split(lengths.tolist())


def _count(bag: Tensor) -> Tensor:
    """Return the number of instances as a tensor: an exported graph takes it from its input."""
    return torch.full((), bag.shape[0], dtype=torch.float64)
