"""How much of an image's evidence lies in the nucleus, in the whole cell, or in its middle.

The question of the paper: whether the network looks at the morphology of the lymphocyte. A share is
of the evidence towards the model's own call; beside it stand the region's share of the image, and
the share in a centred disc as large as the cell, since cells lie in the middle.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import nn

from lymphoml.data.decoding import open_rgb, read_image
from lymphoml.explain.bag import Bag
from lymphoml.explain.deletion import Row
from lymphoml.explain.maps import Place, centre_and_step, layer_map, logit_gradient, spread
from lymphoml.explain.tables import EARLIER, GRAD_CAM, REGION
from lymphoml.features.segmentation import segment

Array = np.ndarray


class Regions(NamedTuple):
    """How much of each pixel that the network sees is of the central cell, 0 to 1."""

    nucleus: Float[Array, "h w"]
    cell: Float[Array, "h w"]  # nucleus and cytoplasm

    def shares(self, evidence: Float[Array, "h w"]) -> dict[tuple[str, str], float]:
        """Return by region and control ("": none) the share of evidence; NaN without any."""
        positive = np.clip(evidence, 0, None)
        total = positive.sum() or np.nan
        found = {}
        for name, region in self._asdict().items():
            found[name, ""] = float((positive * region).sum() / total)
            found[name, "area"] = float(region.mean())
        found["cell", "disc"] = float((positive * self.disc).sum() / total)
        return found

    @property
    def disc(self) -> Float[Array, "h w"]:
        """A centred disc of as many pixels as the cell."""
        rows, columns = (np.arange(length) - (length - 1) / 2 for length in self.cell.shape)
        away = np.hypot(rows[:, None], columns)
        nearest = np.argsort(away, axis=None, kind="stable")
        disc = np.zeros(away.size)
        disc[nearest[: round(self.cell.sum())]] = 1
        return disc.reshape(away.shape)


def find_regions(image: Array, crop: int | None, size: tuple[int, int]) -> Regions | None:
    """Return the regions of a uint8 image (h w 3) as `data.crop` and a resize to `size` leave them.

    None where no nucleus lies near the middle.
    """
    cell = segment(image)
    if not cell.found:
        return None
    height, width = image.shape[:2]
    side_y, side_x = (height, width) if crop is None else (crop, crop)
    top, left = (height - side_y) // 2, (width - side_x) // 2
    found = []
    for mask in (cell.nucleus, cell.whole):
        full = np.zeros((height, width), dtype=np.uint8)
        y, x = (height - mask.shape[0]) // 2, (width - mask.shape[1]) // 2
        full[y : y + mask.shape[0], x : x + mask.shape[1]] = 255 * mask
        seen = Image.fromarray(full[top : top + side_y, left : left + side_x])
        small = seen.resize(size[::-1], Image.Resampling.BOX)
        found.append(np.asarray(small, dtype=float) / 255)
    return Regions(*found)


def check_regions(
    bag: Bag, paths: Sequence[Path], crop: int | None, chosen: Sequence[int],
    found: Mapping[str, Array], places: Mapping[str, Place],
) -> Iterator[Row]:  # fmt: skip
    """Yield the shares of each method's evidence, mean over the images `chosen` with a nucleus.

    `found` are the maps (n h w) of all images by method, `places` their `centre_and_step`. Grad-CAM
    is also taken at the encoder's stage before the last, where it has stages.
    """
    size = (bag.images.shape[2], bag.images.shape[3])
    maps = {method: [spread(values[each], *places[method], *size) for each in chosen]
            for method, values in found.items()}  # fmt: skip
    maps |= _at_earlier_stage(bag, chosen, size) if GRAD_CAM in found else {}
    regions = [find_regions(np.asarray(open_rgb(read_image(paths[each])).image), crop, size)
               for each in chosen]  # fmt: skip
    for method, of_images in maps.items():
        shares = [region.shares(bag.call * values)
                  for region, values in zip(regions, of_images, strict=True) if region]  # fmt: skip
        with_evidence = [each for each in shares if not np.isnan(each["cell", ""])]
        keys = list(with_evidence[0]) if with_evidence else []
        for region, control in keys:
            mean = float(np.mean([each[region, control] for each in with_evidence]))
            yield Row(method, f"{REGION}{region}", control, 0, mean)


def _at_earlier_stage(
    bag: Bag, chosen: Sequence[int], size: tuple[int, int]
) -> dict[str, list[Array]]:
    """Return Grad-CAM's maps behind the last convolutional stage but one, if there is one."""
    encoder: Any = bag.model.encoder
    stages = [name for name, child in encoder.named_children()
              if any(isinstance(each, nn.Conv2d) for each in child.modules())]  # fmt: skip
    if len(stages) < 2:
        return {}
    before, last = stages[-2:]
    gradient = logit_gradient(bag.model, bag.views[0], bag.clinical)[[*chosen]]
    pixels = bag.transforms[0](bag.images[[*chosen]])
    values = layer_map(bag.model, pixels, before, gradient).numpy()
    place = centre_and_step(encoder, end=last)
    return {EARLIER: [spread(each, *place, *size) for each in values]}
