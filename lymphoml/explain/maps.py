"""Where in a cell the evidence lies: Grad-CAM of the bag's logit, and occlusion.

Both are signed: above 0 is evidence for tumoral. Pooling and fusion are inside, so a map shows what
its image does to the patient's logit, not to one of its own. Evaluation mode, single precision.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from numpy.typing import ArrayLike
from scipy.ndimage import map_coordinates
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from lymphoml.core.errors import InputError
from lymphoml.core.types import Bytes, Features
from lymphoml.explain.cells import bag_logit, replaced_logits
from lymphoml.models.mil import MILModel

Transform = Callable[[Tensor], Tensor]
Maps = Float[Tensor, "n h w"]
Place = tuple[ArrayLike, ArrayLike]  # centre and step
CHUNK = 64  # images at a time
KEPT_BYTES = 2**28  # of activations; more are computed a second time
WINDOWS = 7  # occlusion: windows a side, each a quarter of the image, by steps of an eighth
BLUR = 1 / 12  # standard deviation of the blur, of the image's side
ASIDE = ("downsample", "shortcut", ".se.", ".fc1", ".fc2")  # parts of names: not on the main path
POOL_OF_TIMM = "SelectAdaptivePool2d"
NO_MAP = "give methods=[leave_one_out,occlusion]"


def grad_cam(
    model: MILModel, images: Bytes, transform: Transform, clinical: Float[Tensor, " k"]
) -> tuple[Maps, Float[Tensor, " n"]]:
    """Return Grad-CAM's map of each image, and the squared norm of the gradient that it has.

    Selvaraju et al. 2017, without its ReLU. Where the encoder's features are the mean over
    positions of its last activations (c h w), the gradient of the logit by them is that by the
    features over h w, at all positions: no backward pass through the encoder. An image of gradient
    0 (a pooling that passes it over) has no map. Raises InputError for an encoder without such a
    mean.
    """
    layer = _mean_layer(model.encoder)
    kept: list[Tensor] = []
    parts: list[Tensor] = []
    chunks = images.split(CHUNK)
    for chunk in chunks:
        features, activations = _encode(model, transform(chunk), layer)
        if not _is_mean(features, activations):
            raise InputError(f"the encoder's features are no mean over positions; {NO_MAP}")
        parts.append(features)
        if activations.nbytes * len(chunks) <= KEPT_BYTES:
            kept.append(activations)
    gradient = logit_gradient(model, torch.cat(parts), clinical)
    maps = []
    for number, (chunk, towards) in enumerate(zip(chunks, gradient.split(CHUNK), strict=True)):
        activations = kept[number] if kept else _encode(model, transform(chunk), layer)[1]
        height, width = activations.shape[2:]
        maps.append(torch.einsum("nc,nchw->nhw", towards, activations) / (height * width))
    return torch.cat(maps), gradient.square().sum(1)


def logit_gradient(model: MILModel, features: Features, clinical: Float[Tensor, " k"]) -> Features:
    """Return the gradient of the bag's logit by the features of each image."""
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        return torch.autograd.grad(bag_logit(model, leaf, clinical), leaf)[0]


@torch.no_grad()
def occlusion(
    model: MILModel, images: Bytes, transform: Transform, clinical: Float[Tensor, " k"],
    chosen: Sequence[int] | None = None,
) -> Maps:  # fmt: skip
    """Return what blurring each of 7 x 7 windows of an image takes from the bag's logit.

    Of all images, or of those `chosen`. A window is a quarter of the image wide and high, and they
    overlap by half. Blur, not a colour, which no smear has (Zeiler and Fergus 2014 use grey).
    """
    encoder: Any = model.encoder
    features = torch.cat([encoder(transform(chunk)) for chunk in images.split(CHUNK)])
    whole = bag_logit(model, features, clinical)
    rows, columns = map(_spans, images.shape[2:])
    windows = (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1).unsqueeze(1)
    maps = []
    for number in range(len(images)) if chosen is None else chosen:
        occluded = blur_where(windows.to(images.device), images[number])
        changed = torch.cat([encoder(transform(part)) for part in occluded.split(CHUNK)])
        effects = whole - replaced_logits(model, features, clinical, number, changed)
        maps.append(effects.unflatten(0, (WINDOWS, WINDOWS)))
    return torch.stack(maps)


def _spans(length: int) -> Tensor:
    starts = torch.arange(WINDOWS).unsqueeze(1) * length / 8
    place = torch.arange(length) + 0.5
    return (place > starts) & (place < starts + length / 4)


def blur_where(masks: Bool[Tensor, "m 1 h w"], image: UInt8[Tensor, "3 h w"]) -> Bytes:
    """Return the image (3 h w) blurred within each mask (m 3 h w), by BLUR of its width."""
    sigma = BLUR * image.shape[-1]
    blurred = gaussian_blur(image, 2 * round(2 * sigma) + 1, sigma)
    # As images lie in the store: a network on a CPU is faster so.
    return torch.where(masks, blurred, image).contiguous(memory_format=torch.channels_last)


def centre_and_step(encoder: nn.Module, end: str | None = None) -> tuple[float, float]:
    """Return the pixel that a map's first position looks at, and pixels from one to the next.

    `end` is the layer that the map goes into: the mean over positions, or another by its name. Of
    square kernels in the order of the encoder's modules, shortcuts left out. With padding, a
    position of stride 32 looks at pixels 0, 32, ..., not at the middles of 32.
    """
    centre, step, end = 0.0, 1, end or _mean_layer(encoder)
    for name, module in encoder.named_modules():
        if name == end:
            break
        sliding = isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d)
        if sliding and not any(part in name for part in ASIDE):
            sizes = (getattr(module, each) for each in ("kernel_size", "stride", "padding"))
            kernel, stride, padding = (each[0] if isinstance(each, tuple) else each
                                       for each in sizes)  # fmt: skip
            centre += ((kernel - 1) / 2 - padding) * step
            step *= stride
    return centre, float(step)


def spread(
    values: Float[np.ndarray, "h w"], centre: ArrayLike, step: ArrayLike, height: int, width: int
) -> Float[np.ndarray, "y x"]:
    """Return a map at the size of its image: linear between positions, constant beyond them.

    `centre` and `step` as of `centre_and_step`: of rows and columns, or of both.
    """
    centre, step = np.broadcast_to(centre, 2), np.broadcast_to(step, 2)
    places = (np.arange(length) - c for length, c in zip((height, width), centre, strict=True))
    grid = np.meshgrid(*(place / s for place, s in zip(places, step, strict=True)), indexing="ij")
    return map_coordinates(values, grid, order=1, mode="nearest")


def _mean_layer(encoder: Any) -> str:
    """Return the name of the encoder's own layer that averages over positions."""
    for name, module in encoder.named_children():
        if isinstance(module, nn.AdaptiveAvgPool2d) or type(module).__name__ == POOL_OF_TIMM:
            return name
    raise InputError(f"the encoder has no layer that averages over positions; {NO_MAP}")


def _is_mean(features: Tensor, activations: Tensor) -> bool:
    means = activations.mean((2, 3)) if activations.ndim == 4 else activations
    return means.shape == features.shape and torch.allclose(means, features, 1e-4, 1e-5)


@torch.no_grad()
def _encode(model: Any, pixels: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Return the features, and what goes into `layer`."""
    with _seen(model.encoder.get_submodule(layer), before=True) as seen:
        return model.encoder(pixels), seen[0]


def layer_map(model: Any, pixels: Tensor, layer: str, towards: Tensor) -> Tensor:
    """Return the map at the output of `layer`, from the gradient by the features `towards`."""
    with torch.enable_grad(), _seen(model.encoder.get_submodule(layer), before=False) as seen:
        features = model.encoder(pixels.requires_grad_())
        (gradient,) = torch.autograd.grad(features, seen[0], towards)
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * seen[0].detach()).sum(1)


@contextmanager
def _seen(module: nn.Module, before: bool) -> Iterator[list[Tensor]]:
    """Give what goes into a module, or comes out of it, within.

    What goes into the averaging layer is final; behind another layer nothing may work in place.
    """
    seen: list[Tensor] = []
    if before:
        handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    else:
        handle = module.register_forward_hook(lambda *args: seen.append(args[2]))
    try:
        yield seen
    finally:
        handle.remove()
