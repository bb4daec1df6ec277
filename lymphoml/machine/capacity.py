"""Whether an encoder can look at images of a size, and how many a training step can hold."""

import torch
from rich.filesize import decimal
from torch import Tensor, nn

from lymphoml.errors import InputError, one_line
from lymphoml.nn.chunks import activation_bytes, has_batch_norm

# A step's peak over what its activations take: gradients, and workspace of the convolutions.
PEAK = 2
SHARE = 0.5  # of the free memory that one step may take
FEWEST, MOST = 8, 32  # images of a chunk: more are hardly faster


def try_size(encoder: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Raises InputError where the encoder can't look at images of this (height, width)."""
    try:
        with torch.inference_mode():
            encoder.eval()(torch.zeros(1, 3, *size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"model.encoder: {name} refuses images of {size[1]} x {size[0]} pixels "
            f"({one_line(error)[:120]}); set data.crop or data.resize, or tell a vision "
            f"transformer its size by +model.encoder.img_size={size[0]}"
        ) from None


def refuse_unset_gradients(encoder: nn.Module, size: tuple[int, int]) -> None:
    """Raises InputError where bf16 on a CPU would train on whatever lies in memory.

    oneDNN's bf16 kernel (torch 2.15) sets no gradient for the weights of a convolution that step
    over a map of one pixel and so only ever meet padding.
    """
    found: list[nn.Conv2d] = []

    def look(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        sides = inputs[0].shape[-2:]
        if any(stride > side for stride, side in zip(layer.stride, sides, strict=True)):
            found.append(layer)

    convolutions = [each for each in encoder.modules() if isinstance(each, nn.Conv2d)]
    hooks = [each.register_forward_pre_hook(look) for each in convolutions]
    with torch.inference_mode():
        encoder.eval()(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    if any(max(layer.kernel_size) > 1 for layer in found):
        raise InputError(
            f"images of {size[1]} x {size[0]} pixels are one pixel before the encoder's last "
            f"convolutions, for which bf16 leaves gradients unset on this processor; set "
            f"trainer.precision=32-true, or larger images by data.crop or data.resize"
        )


def fitting_chunk(
    encoder: nn.Module, images: int, size: tuple[int, int], *, autocast: bool, free: int | None
) -> int | None:
    """How many images a step of `images` should take at a time; None: all.

    `free` is the memory in bytes, None where nobody knows. Chunks would change what BatchNorm
    learns, and free memory must not decide on that: with it all are taken, and a line says so.
    """
    if free is None:
        return None
    each = activation_bytes(encoder.train(), size, autocast) * PEAK
    if images * each <= SHARE * free:
        return None
    chunk = min(max(int(SHARE * free // each), FEWEST), MOST)
    if not has_batch_norm(encoder):
        return chunk
    print(
        f"a step of {images} images may need {decimal(images * each)} of the {decimal(free)} that "
        f"are free; if memory does not suffice: trainer.chunk_size={chunk}, each chunk a batch of "
        f"its own for BatchNorm, or model.encoder.norm=group, which nothing changes"
    )
    return None
