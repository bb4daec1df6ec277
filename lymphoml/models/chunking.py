"""Any number of images through an encoder in the memory of a few: exact gradients, no graph kept.

The features of all chunks come first, without a graph; once the loss has a gradient for them, each
chunk goes through the encoder again, with its graph, and hands its part of that gradient on (Chen
et al. 2016, "Training Deep Nets with Sublinear Memory Cost"; torch.utils.checkpoint does the work).
It costs one forward pass more, and changes no gradient.

BatchNorm in training normalises each chunk by itself, as it would a batch of that size ("ghost
batch normalisation", Hoffer et al. 2017), and updates its running statistics once a chunk.
GroupNorm and frozen statistics treat an image alike in any company: chunks change nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def encode_in_chunks(
    encoder: nn.Module,
    view: Callable[..., Tensor],
    size: int | None,
    images: Tensor,
    *per_image: Tensor,
) -> Float[Tensor, "n d"]:
    """`encoder(view(images, *per_image))`, at most `size` images at a time; None: all at once.

    `view` is part of each chunk, so that only a chunk's images are ever more than bytes. Chunks
    differ by at most one image in size.
    """

    def embed(*rows: Tensor) -> Tensor:
        return encoder(view(*rows))

    if size is None or len(images) <= size:
        return embed(images, *per_image)
    chunks = zip(
        *(rows.tensor_split(-(-len(images) // size)) for rows in (images, *per_image)), strict=True
    )
    if not torch.is_grad_enabled():
        return torch.cat([embed(*rows) for rows in chunks])
    features = [
        checkpoint(
            embed,
            *rows,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), freeze_running_stats(encoder)),
        )
        for rows in chunks
    ]
    return torch.cat(features)


@contextmanager
def freeze_running_stats(encoder: nn.Module) -> Iterator[None]:
    """The second time through updates no running statistics."""
    tracking: list[Any] = [
        layer for layer in encoder.modules() if getattr(layer, "track_running_stats", False)
    ]
    before = [(layer.momentum, layer.num_batches_tracked) for layer in tracking]
    for layer in tracking:
        layer.momentum, layer.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for layer, (momentum, counted) in zip(tracking, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, counted


def activation_bytes(encoder: nn.Module, size: tuple[int, int], autocast: bool) -> int:
    """What one image of `size` (height, width) leaves in memory for its gradient.

    Found by a forward pass of three images.
    """

    def saved(count: int) -> int:
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

    return saved(3) - saved(2)  # the difference leaves out the weights; BatchNorm needs two


def has_batch_norm(encoder: nn.Module) -> bool:
    """Whether a layer normalises over the images of a batch in training, so that chunks differ."""
    return any(isinstance(layer, nn.BatchNorm2d) and layer.training for layer in encoder.modules())
