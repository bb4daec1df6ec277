"""Encoders: networks from images (n c h w) to features (n d); attribute `dim` is the width d.

`weights` is None to start from scratch, "default" for the library's ImageNet weights, else the
path of a file (see `nn.weights`). `norm` is one of `nn.norms.NORMS`. `learns` false keeps every
weight as it begins. Each factory imports its library itself, since either takes seconds and a run
needs at most one.
"""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from lymphoml.errors import InputError
from lymphoml.nn.norms import set_norm
from lymphoml.nn.weights import load_weights

# The classifier of each network that torchvision_encoder knows, to be taken off.
TORCHVISION_HEADS = {"resnet18": "fc", "resnet34": "fc", "efficientnet_b0": "classifier"}


def torchvision_encoder(
    name: str, weights: str | None = None, norm: str = "batch", learns: bool = True
) -> nn.Module:
    """A network of torchvision's without its classifier, with torchvision's initialisation."""
    from torchvision import models

    if name not in TORCHVISION_HEADS:
        allowed = ", ".join(TORCHVISION_HEADS)
        raise InputError(f"encoder name: {name}; allowed are {allowed}; timm has many others")
    with _explained_download(name, weights):
        network = models.get_model(name, weights="DEFAULT" if weights == "default" else None)
    dim = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1].in_features
    setattr(network, TORCHVISION_HEADS[name], nn.Identity())
    return finished(network, dim, weights, norm, learns)


def timm_encoder(
    name: str, weights: str | None = None, norm: str = "batch", learns: bool = True, **options: Any
) -> nn.Module:
    """Any of timm's networks, pooled over the image and without its classifier.

    `options` go to `timm.create_model`: a vision transformer needs `img_size`, the side in pixels
    of the images it will see, where that is not the one it was designed for.
    """
    # A download tells the hub no more than what is asked for.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see timm.list_models()"
        raise InputError(f"encoder name: {name}; timm has no such network; {hint}")
    # A name may end in a tag that says which weights: resnet18.a1_in1k.
    if (weights == "default" or "." in name) and not timm.is_model_pretrained(name):
        raise InputError(f"encoder name: {name}; timm has no weights of that name")
    with _explained_download(name, weights):
        network: Any = timm.create_model(
            name, pretrained=weights == "default", num_classes=0, **options
        )
    return finished(network, network.head_hidden_size, weights, norm, learns)


def finished(
    network: Any, dim: int, weights: str | None, norm: str, learns: bool = True
) -> nn.Module:
    """The network with its norm and weights as asked for, and its width `dim`."""
    if not learns and norm == "batch":
        raise InputError(
            "encoder learns: false with norm: batch, whose statistics would still move; set "
            "model.encoder.norm=frozen"
        )
    if weights == "default" and norm == "group":
        raise InputError(
            "encoder norm: group with weights: default; those were trained with BatchNorm, set "
            "model.encoder.norm=frozen or batch, and data.normalise=true"
        )
    set_norm(network, norm)
    if weights is not None and weights != "default":
        load_weights(network, Path(weights))
    network.dim = dim
    return network.requires_grad_(learns)


@contextmanager
def _explained_download(name: str, weights: str | None) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # no connection, no such file, a wrong checksum
        if weights != "default":
            raise
        raise InputError(
            f"encoder weights: default; the download for {name} failed ({type(error).__name__}); "
            "allowed are also the path of a file that you have, and null for no weights"
        ) from error
