"""What an encoder that nobody trains here makes of every image: a fixed network's features."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lymphoml.core.errors import InputError
from lymphoml.core.files import sha256
from lymphoml.data.cache import BagSource, Images
from lymphoml.data.decoding import Preprocessing, common_size, decode_patient, size_from_header
from lymphoml.data.transforms import BatchTransform
from lymphoml.models.build import build, limit_size

WHOLE = Preprocessing(crop=None, resize=None)
VERSION = 1  # of what this file makes of an image: another number, another place in the cache
AT_ONCE = 64  # images
UNTRAINED = {"_target_": "lymphoml.models.encoders.torchvision_encoder", "name": "resnet18"}
STAGES = 4  # of a ResNet
CROP, RESIZE = 128, 64  # pixels: the cell without its neighbours, at half the resolution


class FrozenEncoder:
    """An Extractor: the features of each image by the encoder that `spec` describes, unchanged.

    Its weights are drawn by `seed` where `spec` names none. `data` is the configuration's group of
    that name, of which crop, resize, normalise and stain_norm count. Columns are called `name` and
    a number. `stages` of a ResNet's four are kept: 3 end it with layer3.
    """

    def __init__(
        self,
        spec: dict[str, Any],
        data: dict[str, Any],
        seed: int = 0,
        name: str = "feature",
        stages: int = STAGES,
    ):
        with torch.random.fork_rng(devices=[]), limit_size():
            torch.manual_seed(seed)
            self.encoder = _up_to(build(spec).eval(), stages)
        self.framing = _framing(data)
        self.view = BatchTransform(data["normalize_images"])
        self.names = tuple(f"{name}_{column}" for column in range(self.encoder.dim))
        kept = {} if stages == STAGES else {"stages": stages}
        self.settings = _settings(spec | kept, data, seed)

    def rows(self, sources: Sequence[BagSource]) -> Iterator[np.ndarray | list[str]]:
        size = common_size(sources, self.framing) or (0, 0)
        for source in sources:
            pixels = _decode_all(source, self.framing, size)
            yield pixels if isinstance(pixels, list) else self._encode(pixels)

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        try:
            with torch.inference_mode():
                parts = [self.encoder(self.view(part)) for part in images.split(AT_ONCE)]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise InputError(
                f"encoder: refuses images of {pixels.shape[2]} x {pixels.shape[1]} pixels "
                f"({str(error).splitlines()[0][:120]}); set data.crop or data.resize"
            ) from None
        return torch.cat(parts).float().numpy()


def untrained(images: Images, seed: int = 0) -> FrozenEncoder:
    """The default network before any training: the control of every trained one.

    Of images smaller than CROP or RESIZE it sees the whole, and the columns' names say so: what a
    model has learned of such features it takes for no other. Inputs are centred: bytes as they are
    would be mostly brightness to it.
    """
    data = _seen(images, RESIZE)
    return FrozenEncoder(UNTRAINED, data, seed, f"feature{_smaller(data)}")


def untrained_layer3(images: Images, seed: int = 0) -> FrozenEncoder:
    """The same network up to its layer3, at full resolution: the texture of small places."""
    data = _seen(images, CROP)
    return FrozenEncoder(UNTRAINED, data, seed, f"layer3{_smaller(data)}", stages=3)


def _seen(images: Images, resize: int) -> dict[str, Any]:
    paths = (path for bag in images.values() for path in bag)
    side = min(next(filter(None, (size_from_header(path, WHOLE) for path in paths)), (CROP,)))
    return {"crop": min(CROP, side), "resize": min(resize, side), "normalize_images": True}


def _smaller(data: dict[str, Any]) -> str:
    return "" if data["crop"] == CROP else f"-{data['crop']}-pixels"


def pretrained(path: Path, settings: dict[str, Any]) -> FrozenEncoder:
    """The encoder in the file `path`, made as `settings`, the group `pretrain`, says.

    The columns' names hold the file's digest: a model of one encoder's features takes no other's.
    """
    spec = settings["encoder"] | {"weights": str(path)}
    return FrozenEncoder(spec, settings, name=f"pretrained-{sha256(path)[:16]}")


def _up_to(network: Any, stages: int) -> Any:
    """Each stage of a ResNet has twice the channels of the one before."""
    for left_out in range(stages + 1, STAGES + 1):
        setattr(network, f"layer{left_out}", nn.Identity())
        network.dim //= 2
    return network


def _framing(data: dict[str, Any]) -> Preprocessing:
    # A run of an earlier version has a group `pretrain` without stain_norm.
    return Preprocessing(data["crop"], data["resize"], data.get("stain_norm"))


def _settings(spec: dict[str, Any], data: dict[str, Any], seed: int) -> str:
    """Names a folder: what the encoder is, in words and as a digest of all that decides."""
    framing = _framing(data)
    weights = spec.get("weights")
    origin = weights or f"seed {seed}"
    if weights and (path := Path(weights)).is_file():
        origin = sha256(path)
    kept = {key: value for key, value in spec.items() if key != "weights"}
    libraries = [version(name) for name in ("torch", "torchvision", "timm")]
    decisive = [VERSION, kept, origin, framing.name, bool(data["normalize_images"]), libraries]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return f"{spec.get('name', 'encoder')}-v{VERSION},crop={framing.crop},{digest[:16]}"


def _decode_all(
    source: BagSource, framing: Preprocessing, size: tuple[int, int]
) -> np.ndarray | list[str]:
    with warnings.catch_warnings(action="error"):
        decoded = list(decode_patient(source, framing, size))
    problems = [image for image in decoded if isinstance(image, str)]
    return problems or np.stack([image for image in decoded if not isinstance(image, str)])
