"""The smallest images that encoder, normalization layers and augmentation can be trained on."""

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from lymphoml.core.errors import InputError, one_line
from lymphoml.models.chunking import has_batch_norm


def check_input_size(
    encoder: nn.Module, name: str, size: tuple[int, int], *, fewest: int = 2, turned_by: str = "",
    bf16_on_cpu: bool = False, section: str = "data",
) -> None:  # fmt: skip
    """Raise InputError where an encoder cannot be trained on images of this (height, width).

    It is tried on a blank image. `fewest` images are encoded at a time: BatchNorm needs more than
    one value of each channel. What turns images, the key `turned_by`, needs square ones. oneDNN's
    bf16 kernel (torch 2.15) leaves gradients unset for the weights of a convolution that strides
    over a map of one pixel and so only ever meets padding. Running statistics may change; cells are
    measured from `Preprocessing.min_side` on.
    """
    height, width = size
    images, larger = f"images of {width} x {height} pixels", f"{section}.crop or {section}.resize"
    if turned_by and height != width:
        raise InputError(
            f"{turned_by} needs square images, these are {images}. Set {section}.crop."
        )
    shrunk: list[nn.Conv2d] = []

    def inspect(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Conv2d):
            sides = inputs[0].shape[-2:]
            if any(stride > side for stride, side in zip(layer.stride, sides, strict=True)):
                shrunk.append(layer)

    alone = fewest == 1 and has_batch_norm(encoder.train())
    try:
        with torch.no_grad(), register_module_forward_pre_hook(inspect):
            encoder.train(alone)(torch.zeros(1, 3, *size))
        encoder.train()
    except (AssertionError, RuntimeError, ValueError) as error:
        if alone and "more than 1 value per channel" in str(error):
            raise InputError(
                f"{name}: a step of one image (by bags of one, data.train_bag_size or "
                f"trainer.encoder_chunk_size) leaves BatchNorm one value per channel, since "
                f"{images} shrink to one pixel. Set model.encoder.norm=group, or make {larger} "
                f"larger."
            ) from None
        raise InputError(
            f"{name} does not accept {images} ({one_line(error)[:120]}). Set {larger}, or for a "
            f"vision transformer +model.encoder.img_size={height}."
        ) from None
    if bf16_on_cpu and any(max(layer.kernel_size) > 1 for layer in shrunk):
        raise InputError(
            f"{name}: {images} shrink to one pixel before its last convolutions, for which bf16 "
            f"leaves gradients unset on this processor. Set trainer.precision=32-true, or make "
            f"{larger} larger."
        )
