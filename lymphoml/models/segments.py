"""Reductions within the segments of a ragged batch: `n` rows, `lengths[i]` of them in bag `i`.

A plain loop over the bags: at the width of an encoder's features it takes no longer than
`index_add` or `torch.segment_reduce`, runs on every device, gives a bag the same bits alone as
among others, and stays deterministic on a GPU, where `scatter_reduce` refuses to. Lengths that do
not add up to `n` are an error. They stay on the CPU.

Everything is reduced in at least single precision, also under autocast. Bags are not empty.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor


def segment_sum(values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.sum(0))


def segment_mean(
    values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.mean(0))


def segment_max(values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b *d"]:
    """Rows that tie for the maximum share its gradient evenly."""
    return _reduce(values, lengths, lambda bag: bag.amax(0))


def segment_logsumexp(
    values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.logsumexp(0))


def segment_logmeanexp(
    values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "b *d"]:
    return _reduce(values, lengths, lambda bag: bag.logsumexp(0) - math.log(len(bag)))


def segment_quantiles(
    values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"], levels: Sequence[float]
) -> Float[Tensor, "b q *d"]:
    """The smallest value that at least a share `level` of the bag does not exceed.

    The inverse of the step function: repeating every row as often as you like changes nothing.
    """

    def quantiles(bag: Tensor) -> Tensor:
        # Levels are no binary fractions: 0.14 * 50 lies a hair above 7, and means 7.
        ranks = [max(math.ceil(level * len(bag) - 1e-6), 1) - 1 for level in levels]
        return bag.sort(0).values[ranks]

    return _reduce(values, lengths, quantiles)


def segment_top_mean(
    values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"], share: float
) -> Float[Tensor, "b *d"]:
    """The mean of the highest `share` of the bag, at least of one row; the last counts in part."""

    def top_mean(bag: Tensor) -> Tensor:
        kept = max(share * len(bag), 1.0)
        ranked = bag.sort(0, descending=True).values[: math.ceil(kept)]
        ranks = torch.arange(len(ranked), device=bag.device, dtype=bag.dtype)
        weights = (kept - ranks).clamp(max=1) / kept
        return (weights.view(-1, *[1] * (bag.dim() - 1)) * ranked).sum(0)

    return _reduce(values, lengths, top_mean)


def segment_softmax(
    values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "n *d"]:
    """Each bag's rows sum to one."""
    return torch.cat([bag.softmax(0) for bag in _split(values, lengths)])


def _reduce(values: Tensor, lengths: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([reduce(bag) for bag in _split(values, lengths)])


def _split(values: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    return at_least_single(values).split(lengths.tolist())


def at_least_single(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Half precision as single, double as it is."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
