"""Encode any number of images in the memory of a few, by activation checkpointing.

In the backward pass each chunk goes through the encoder again, with its graph (Chen et al. 2016,
"Training Deep Nets with Sublinear Memory Cost"): one more forward pass, the same gradients.
BatchNorm in training normalises each chunk by itself ("ghost batch normalisation", Hoffer et al.
2017) and updates its running statistics once a chunk.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

EVALUATION_CHUNK = 64  # images at a time: the same on every machine, whatever the bag's size


def encode_in_chunks(
    encoder: nn.Module, transform: Callable[..., Tensor], size: int | None, images: Tensor,
    *per_image: Tensor,
) -> Float[Tensor, "n d"]:  # fmt: skip
    """Return `encoder(transform(...))`, at most `size` images at a time; None: all at once."""

    def encode(*inputs: Tensor) -> Tensor:
        return encoder(transform(*inputs))

    if size is None or len(images) <= size:
        return encode(images, *per_image)
    count = -(-len(images) // size)
    chunks = zip(*(tensor.tensor_split(count) for tensor in (images, *per_image)), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([encode(*chunk) for chunk in chunks])
    again = partial(checkpoint, encode, use_reentrant=False,
                    context_fn=lambda: (nullcontext(), freeze_running_stats(encoder)))  # fmt: skip
    return torch.cat([again(*chunk) for chunk in chunks])


@contextmanager
def freeze_running_stats(encoder: nn.Module) -> Iterator[None]:
    """Update no running statistics of the encoder within: for the second forward pass."""
    layers: Iterator[Any] = encoder.modules()
    norms = [layer for layer in layers if getattr(layer, "track_running_stats", False)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def activation_bytes(encoder: nn.Module, size: tuple[int, int], autocast: bool) -> int:
    """Return the bytes kept for the gradient of one image of `size` (height, width), measured."""

    def saved_bytes(count: int) -> int:
        storages = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        images = torch.zeros(count, 3, *size).contiguous(memory_format=torch.channels_last)
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=autocast),
        ):
            encoder(images)
        return sum(storages.values())

    return saved_bytes(3) - saved_bytes(2)  # cancels the weights; BatchNorm needs two images


def has_batch_norm(encoder: nn.Module) -> bool:
    """Return whether a layer normalises over the images of a batch, so that chunks matter."""
    return any(isinstance(layer, nn.BatchNorm2d) and layer.training for layer in encoder.modules())
