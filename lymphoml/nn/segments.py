"""Reductions within the segments of a ragged batch: `n` rows, `lengths[i]` of them in bag `i`.

A plain loop over the bags: at the width of an encoder's features it takes no longer than
`index_add` or `torch.segment_reduce`, runs on every device, gives a bag the same bits alone as
among others, and stays deterministic on a GPU, where `scatter_reduce` refuses to. Lengths that do
not add up to `n` are an error. They stay on the CPU.

Everything is reduced in at least single precision, also under autocast. Bags are not empty.
"""

from collections.abc import Callable

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


def segment_softmax(
    values: Float[Tensor, "n *d"], lengths: Int[Tensor, " b"]
) -> Float[Tensor, "n *d"]:
    """Each bag's rows sum to one."""
    return torch.cat([bag.softmax(0) for bag in _split(values, lengths)])


def _reduce(values: Tensor, lengths: Tensor, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([reduce(bag) for bag in _split(values, lengths)])


def _split(values: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    precise = values.to(torch.promote_types(values.dtype, torch.float32))
    return precise.split(lengths.tolist())
