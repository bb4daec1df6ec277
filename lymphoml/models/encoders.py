"""Encoders: networks from images (n c h w) to features (n d); attribute `dim` is the width d.

`weights` is None to start from scratch, "default" for the library's ImageNet weights, or the path
of a file (see `models.weights`). `norm` is a key of `models.norms.NORMS`; None is what the file
was trained with, "batch" without a file. `trainable=False` freezes every weight. Each factory
imports its library itself, which takes seconds.
"""

import difflib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from lymphoml.core.errors import InputError
from lymphoml.models.chunking import has_batch_norm
from lymphoml.models.norms import set_norm
from lymphoml.models.weights import load_weights, trained_norm

# The attribute of each torchvision network that holds its classifier, which is removed.
TORCHVISION_CLASSIFIERS = {"resnet18": "fc", "resnet34": "fc", "efficientnet_b0": "classifier"}
# What may be set of a timm network: shape and dropout. timm takes paths and addresses as well
# (`checkpoint_path`, `pretrained_cfg`, `cache_dir`), and a run folder may come from a stranger.
TIMM_OPTIONS = {
    "attn_drop_rate", "class_token", "depth", "depths", "dims", "drop_path_rate", "drop_rate",
    "dynamic_img_size", "embed_dim", "global_pool", "img_size", "in_chans", "init_values",
    "mlp_ratio", "no_embed_class", "num_heads", "output_stride", "patch_size", "proj_drop_rate",
    "reg_tokens", "window_size",
}  # fmt: skip


def torchvision_encoder(
    name: str, weights: str | None = None, norm: str | None = "batch", trainable: bool = True
) -> nn.Module:
    """Return one of torchvision's networks without its classifier."""
    from torchvision import models

    if name not in TORCHVISION_CLASSIFIERS:
        names = ", ".join(TORCHVISION_CLASSIFIERS)
        raise InputError(f"encoder name: {name}; must be one of {names}; timm has many others")
    with _explain_download_error(name, weights):
        network = models.get_model(name, weights="DEFAULT" if weights == "default" else None)
    dim = [layer for layer in network.modules() if isinstance(layer, nn.Linear)][-1].in_features
    setattr(network, TORCHVISION_CLASSIFIERS[name], nn.Identity())
    return _finish(network, dim, weights, norm, trainable)


def timm_encoder(
    name: str, weights: str | None = None, norm: str | None = "batch", trainable: bool = True,
    **options: Any,
) -> nn.Module:  # fmt: skip
    """Return any timm network without its classifier; `options` are some of TIMM_OPTIONS."""
    if unknown := sorted(options.keys() - TIMM_OPTIONS):
        raise InputError(
            f"model.encoder.{unknown[0]}: must be one of {', '.join(sorted(TIMM_OPTIONS))}, or of "
            "the settings in conf/model/encoder/timm.yaml"
        )
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import timm

    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(similar)}?" if similar else "see timm.list_models()"
        raise InputError(f"encoder name: {name}; timm has no such network; {hint}")
    # A name may end in a tag that selects weights: resnet18.a1_in1k.
    if (weights == "default" or "." in name) and not timm.is_model_pretrained(name):
        raise InputError(f"encoder name: {name}; timm has no weights of that name")
    with _explain_download_error(name, weights):
        network: Any = timm.create_model(
            name, pretrained=weights == "default", num_classes=0, **options
        )
    return _finish(network, network.head_hidden_size, weights, norm, trainable)


def resnet10(
    width: int, weights: str | None = None, norm: str | None = "batch", trainable: bool = True
) -> nn.Module:
    """Return a ResNet for a few hundred patients: four stages of one basic block each.

    He et al. 2016, "Deep Residual Learning". The stages have 1, 2, 4 and 8 times `width` channels;
    64 is ResNet18's. The stem is 3 x 3 and halves once, not twice: for cells at 64 pixels.
    `weights` is a file or None: no released weights exist.
    """
    from torchvision.models.resnet import BasicBlock

    if width < 1:
        raise ValueError(f"width is {width}; must be >= 1")
    if weights == "default":
        raise InputError("encoder weights: default; ResNet10 has none, give a file, or null")
    layers: list[nn.Module] = [*_conv_norm(3, width, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    inputs = width
    for channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2), (8 * width, 2)):
        shortcut = None if stride == 1 else nn.Sequential(*_conv_norm(inputs, channels, 1, 2))
        layers.append(BasicBlock(inputs, channels, stride, shortcut))
        inputs = channels
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _finish(network, inputs, weights, norm, trainable)


def _conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def _finish(
    network: Any, dim: int, weights: str | None, norm: str | None, trainable: bool
) -> nn.Module:
    """Return the network with its norm, weights from a file, and attribute `dim`."""
    file = Path(weights) if weights is not None and weights != "default" else None
    norm = norm or ("batch" if file is None else trained_norm(network, file))
    if not trainable and norm == "batch" and has_batch_norm(network):
        raise InputError(
            "encoder trainable: false with norm: batch, whose statistics would still change; set "
            "model.encoder.norm=frozen"
        )
    if weights == "default" and norm == "group":
        raise InputError(
            "encoder norm: group with weights: default, which were trained with BatchNorm; set "
            "model.encoder.norm=frozen or batch, and data.normalize_images=true"
        )
    set_norm(network, norm)
    if file is not None:
        load_weights(network, file)
    network.dim = dim
    if not trainable:  # nor random: stochastic depth and dropout would act in training
        for layer in network.modules():
            for rate in ("p", "drop_prob"):
                if isinstance(getattr(layer, rate, None), float):
                    setattr(layer, rate, 0.0)
    return network.requires_grad_(trainable)


@contextmanager
def _explain_download_error(name: str, weights: str | None) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # no connection, no such file, a wrong checksum
        if weights != "default":
            raise
        raise InputError(
            f"encoder weights: default; the download for {name} failed ({type(error).__name__}); "
            "set weights to the path of a file, or to null for none"
        ) from error


class FeatureEncoder(nn.Module):
    """Return vectors (n d) as they are, or through layers of `hidden` units; `norm` is ignored."""

    def __init__(self, hidden: Sequence[int] = (), norm: str | None = None, feature_dim: int = 2):
        if any(units < 1 for units in hidden):
            raise ValueError(f"hidden is {list(hidden)}; each must be >= 1")
        super().__init__()
        layers = [feature_dim, *hidden]
        self.dim = layers[-1]
        self.layers = nn.Sequential()
        for before, after in pairwise(layers):
            self.layers.extend([nn.Linear(before, after), nn.ReLU()])

    def forward(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
        return self.layers(features)
