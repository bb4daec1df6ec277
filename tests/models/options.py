"""Every pooling and fusion that conf/ offers, as the tests build them: small."""

from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from lymphoml.models.build import build

CONF = Path(__file__).parents[2] / "conf" / "model"


def read(group: str) -> dict[str, dict[str, Any]]:
    return {
        path.stem: yaml.safe_load(path.read_text()) for path in sorted((CONF / group).iterdir())
    }


POOLINGS, FUSIONS = read("pooling"), read("fusion")
FITTED = ("additive_fitted", "stacking")  # whole, by no gradient step
# Where an instance that is neither among the highest nor the lowest of its bag changes nothing.
SELECT = {"top_fraction", "max_score", "chowder"}


def make_pooling(name: str, dim: int) -> nn.Module:
    spec = dict(POOLINGS[name])
    if "hidden" in spec:
        spec["hidden"] = 7
    if "heads" in spec:
        spec["heads"] = 2
    return build(spec, dim)


def make_fusion(name: str, image_dim: int, clinical_dim: int) -> nn.Module:
    """What a fold's training patients fit beforehand is fitted to four of them."""
    fusion = build(FUSIONS[name], image_dim, clinical_dim)
    draw = torch.Generator().manual_seed(0)
    clinical = torch.randn(4, clinical_dim, generator=draw)
    label = torch.tensor([1.0, 0.0, 0.0, 1.0])
    fusion.fit_clinical(clinical, label, 1.0)
    if fusion.fits_images:
        fusion.fit_images(torch.randn(4, image_dim, generator=draw), clinical, label, 1.0)
    return fusion
