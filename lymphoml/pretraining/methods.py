"""The ways to learn from images without labels, by name.

A method has a `head` that follows the encoder, and `loss(head's outputs, views)`, where the batch
holds `views` views of each image: all of the first, then all of the second.
"""

import inspect
from typing import Any

from lymphoml.errors import InputError, one_line
from lymphoml.pretraining.autoencoder import Autoencoder
from lymphoml.pretraining.contrast import SimCLR, VICReg
from lymphoml.pretraining.settings import METHODS

CLASSES = dict(zip(METHODS, (SimCLR, VICReg, Autoencoder), strict=True))


def make_method(settings: dict[str, Any], dim: int, size: tuple[int, int]) -> Any:
    """That of the group `pretrain`, for features of width `dim` of images of (h, w) = `size`.

    Raises InputError for settings that it does not have.
    """
    method, given = CLASSES[settings["method"]], settings["loss"]
    try:
        inspect.signature(method).bind(dim, size, **given)
        return method(dim, size, **given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"pretrain.loss={given} of {settings['method']}: {one_line(error)[:200]}"
        ) from None
