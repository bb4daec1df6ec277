"""How much of the evidence lies in the cell, of cells that are drawn here."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lymphoml.explain.bag import Bag
from lymphoml.explain.regions import check_regions, find_regions
from lymphoml.explain.tables import EARLIER, REGION
from lymphoml.models.fusion.trained import Concat
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.statistics import Mean

NUCLEUS, CELL = 22, 38  # radii, pixels of 224


def drawn(centre=(112, 112)):
    rows, columns = np.mgrid[:224, :224]
    away = np.hypot(rows - centre[0], columns - centre[1])[..., None]
    image = np.where(away <= CELL, (120, 150, 210), (232, 218, 208))
    return np.where(away <= NUCLEUS, (70, 35, 120), image).astype(np.uint8)


@pytest.mark.parametrize(("crop", "side"), [(None, 224), (112, 64), (128, 32)])
def test_regions_lie_where_the_network_sees_the_cell(crop, side):
    found = find_regions(drawn((100, 118)), crop, (side, side))
    scale = side / (crop or 224)
    for region, radius in ((found.nucleus, NUCLEUS), (found.cell, CELL)):
        assert region.sum() == pytest.approx(np.pi * (radius * scale) ** 2, rel=0.08)
        rows, columns = np.mgrid[:side, :side]
        middle = ((100, 118) - np.array((224 - (crop or 224)) / 2) + 0.5) * scale - 0.5
        for axis, place in zip((rows, columns), middle, strict=True):
            assert (axis * region).sum() / region.sum() == pytest.approx(place, abs=0.6)
    assert (found.nucleus <= found.cell).all()
    assert find_regions(np.full((224, 224, 3), 230, np.uint8), crop, (side, side)) is None


def test_shares_are_of_the_positive_evidence():
    regions = find_regions(drawn(), 112, (64, 64))
    even = regions.shares(np.ones((64, 64)))
    assert even["nucleus", ""] == pytest.approx(even["nucleus", "area"])
    assert even["cell", "disc"] == pytest.approx(even["cell", "area"], abs=1e-3)
    inside = regions.shares(np.where(regions.cell > 0.5, 2.0, -5.0))
    assert inside["cell", ""] > 0.97
    assert inside["cell", "disc"] > 0.9  # the cell is a disc in the middle
    assert inside["nucleus", ""] == pytest.approx((NUCLEUS / CELL) ** 2, rel=0.1)
    assert np.isnan(regions.shares(-np.ones((64, 64)))["cell", ""])


class Colour(nn.Module):
    """Means over positions of `sign` times the darkness of pixels."""

    def __init__(self, sign):
        super().__init__()
        self.first = nn.Conv2d(3, 1, 1)
        self.second = nn.Conv2d(1, 1, 1)
        self.mean, self.flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        for layer, weight, bias in ((self.first, -1.0, 2.4), (self.second, sign, 0.0)):
            nn.init.constant_(layer.weight, weight)
            nn.init.constant_(layer.bias, bias)

    def forward(self, pixels):
        return self.flat(self.mean(self.second(self.first(pixels).clamp(min=0))))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_network_that_sees_darkness_looks_at_the_cell(tmp_path, sign):
    for number in range(3):
        Image.fromarray(drawn((110 + number, 112))).save(tmp_path / f"{number}.png")
    paths = sorted(tmp_path.iterdir())
    small = [Image.open(path).crop((56, 56, 168, 168)).resize((64, 64)) for path in paths]
    images = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2)
    model = MILModel(Colour(sign), Mean(1), Concat(1, 0)).eval()
    nn.init.constant_(model.fusion.both.weight, sign)
    nn.init.constant_(model.fusion.both.bias, 0)
    bag = Bag("P1", model, images, [lambda images: images / 255], torch.zeros(0))
    dark = 2.4 - images.float().sum(1).numpy() / 255
    rows = check_regions(bag, paths, 112, [0, 2], {"grad_cam": np.clip(dark, 0, None)},
                         {"grad_cam": (0.0, 1.0)})  # fmt: skip
    found = {(row.method, row.check, row.control): row.value for row in rows}
    assert bag.call == 1
    for method in ("grad_cam", EARLIER):
        assert found[method, f"{REGION}cell", ""] > 2 * found[method, f"{REGION}cell", "area"]
        assert found[method, f"{REGION}nucleus", ""] > 3 * found[method, f"{REGION}nucleus", "area"]
