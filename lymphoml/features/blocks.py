"""Blocks of features: what is computed of each image without labels; networks load when used."""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.files import sha256
from lymphoml.data import decoding
from lymphoml.data.cache import Images
from lymphoml.data.decoding import WHOLE, Preprocessing, size_from_header
from lymphoml.data.settings import ChannelStatistics, Normalization
from lymphoml.features.pretraining.settings import PretrainConfig

VERSION = 1  # of what a frozen encoder makes of an image: another number, another cache folder
RESNET18 = {"_target_": "lymphoml.models.encoders.torchvision_encoder", "name": "resnet18"}
STAGES = 4  # of a ResNet
CROP, RESIZE = 128, 64  # pixels: the cell without its neighbours, at half the resolution
PIXELS_AT_ONCE = 64 * 64 * 64  # of a forward pass; more of them leave the processor's cache


class PretrainedEncoder(NamedTuple):
    """An encoder's file, and the configuration's section `pretrain` that made it."""

    path: Path
    settings: PretrainConfig


class MorphologyBlock:
    """The 38 measures of `lymphoml.features.morphology`, of the image as its file has it."""

    preprocessing, one_size = WHOLE._replace(min_side=5), False  # less may hold no cell

    def __init__(self) -> None:
        from lymphoml.features import morphology  # scikit-image takes a second to import

        self.names = list(morphology.NAMES)
        libraries = (f"{each}={version(each)}" for each in ("scikit-image", "scipy", "pillow"))
        self.encoder = f"morphology-v{morphology.VERSION}"
        self.key = ",".join([self.encoder, *libraries])

    def compute(self, images: Sequence[np.ndarray]) -> np.ndarray:
        from lymphoml.features.morphology import measure

        return np.stack([measure(image) for image in images])


class EncoderBlock:
    """The features of a frozen encoder; weights drawn by `seed` where `spec` names none."""

    one_size = True

    def __init__(
        self, spec: dict[str, Any], preprocessing: Preprocessing, normalize: Normalization,
        seed: int = 0, name: str = "feature", stages: int = STAGES,
    ):  # fmt: skip
        import torch

        self.spec, self.preprocessing, self.normalize = spec, preprocessing, normalize
        self.seed, self.stages = seed, stages
        with torch.device("meta"):
            dim = _built(spec | {"weights": None}, seed).dim
        dim >>= STAGES - stages  # each stage has twice the channels of the one before
        self.names = [f"{name}_{column}" for column in range(dim)]
        weights = spec.get("weights")
        self.origin = weights or f"seed {seed}"
        if weights and Path(weights).is_file():
            self.origin = sha256(Path(weights))
        if weights:  # read here, once, before any image is
            frozen_encoder(json.dumps(spec), self.origin, seed)
        network = {key: value for key, value in spec.items() if key != "weights"}
        libraries = [version(each) for each in ("torch", "torchvision", "timm")]
        by = normalize.to_dict() if isinstance(normalize, ChannelStatistics) else normalize
        values = [VERSION, network, stages, self.origin, preprocessing.name, by, libraries]
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        self.key = f"{spec.get('name', 'encoder')}-v{VERSION},crop={preprocessing.crop},{digest}"
        # Without versions of libraries, Pillow among them, which move features by rounding.
        values[4:] = [decoding.VERSION, preprocessing.steps, by]
        made_by = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        self.encoder = (
            f"{spec.get('name', 'encoder')}-v{VERSION}, weights {self.origin[:16]}, "
            f"{preprocessing.steps}, normalize_images={by}, {made_by}"
        )

    def compute(self, images: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        from lymphoml.data.transforms import normalize, to_unit

        network = frozen_encoder(json.dumps(self.spec), self.origin, self.seed, self.stages)
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        height, width = batch.shape[2:]
        features = []
        try:
            with torch.inference_mode():
                for part in batch.split(max(1, min(64, PIXELS_AT_ONCE // (height * width)))):
                    features.append(network(normalize(to_unit(part), self.normalize)))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"encoder: does not accept images of {width} x {height} pixels "
                f"({one_line(error)[:120]}); set data.crop or data.resize"
            ) from None
        return torch.cat(features).float().numpy()


# Columns of feature vectors. `encoder` names all that decides on the values but the images, `key`
# also versions of libraries; `one_size` says whether all images must be of one size; `compute`
# returns float32 (m, d) of preprocessed images, uint8 (h, w, 3).
FeatureBlock = MorphologyBlock | EncoderBlock


@lru_cache(maxsize=8)
def frozen_encoder(spec: str, origin: str, seed: int, stages: int = STAGES) -> Any:
    """Return the encoder in evaluation mode; `origin` is a digest of its weights' file."""
    import torch
    from torch import nn

    if stages == STAGES:
        return _built(json.loads(spec), seed).eval().to(memory_format=torch.channels_last)
    network = frozen_encoder(spec, origin, seed)
    layers = ["conv1", "bn1", "relu", "maxpool", *(f"layer{each + 1}" for each in range(stages))]
    parts = [getattr(network, layer) for layer in (*layers, "avgpool")]
    return nn.Sequential(*parts, nn.Flatten())


def _built(spec: dict[str, Any], seed: int) -> Any:
    import torch

    from lymphoml.models.build import build, limit_size

    with torch.random.fork_rng(devices=[]), limit_size():
        torch.manual_seed(seed)
        return build(spec)


def make_blocks(
    names: Sequence[str], images: Images, encoder: PretrainedEncoder | None = None, seed: int = 0,
    num_networks: int = 1,
) -> list[list[FeatureBlock]]:  # fmt: skip
    """Return the block of each name, in parts: one of random networks has a part a network."""

    def parts(name: str) -> list[FeatureBlock]:
        if name == "morphology":
            return [MorphologyBlock()]
        if name == "pretrained":
            assert encoder is not None
            return [pretrained_block(*encoder)]
        seeds = range(seed * num_networks, (seed + 1) * num_networks)
        return [random_block(name, images, each) for each in seeds]

    return [parts(name) for name in names]


def random_block(name: str, images: Images, seed: int) -> EncoderBlock:
    """Return an untrained ResNet18 on the central CROP pixels; columns name a smaller crop."""
    layer3 = name == "random_resnet18_layer3"
    paths = (path for bag in images.values() for path in bag)
    side = min(next(filter(None, (size_from_header(path, WHOLE) for path in paths)), (CROP,)))
    crop = min(CROP, side)
    preprocessing = Preprocessing(crop, min(CROP if layer3 else RESIZE, side))
    columns = "layer3" if layer3 else "feature"
    if crop < CROP:
        columns += f"-{crop}-pixels"
    return EncoderBlock(RESNET18, preprocessing, True, seed, columns, 3 if layer3 else STAGES)


def pretrained_block(path: Path, settings: Any) -> EncoderBlock:
    """Return the block of the encoder in `path`, made by `settings`; its digest names columns."""
    spec, name = settings.encoder | {"weights": str(path)}, f"pretrained-{sha256(path)[:16]}"
    return EncoderBlock(spec, Preprocessing.of(settings), settings.normalize_images, name=name)
