"""The images' features that baselines are made of: each cell's measures, an untrained network's."""

from typing import Any

from lymphoml.data.cohort import Cohort
from lymphoml.data.rows import RowStore
from lymphoml.features.computed import computed

KINDS = {"morphology": "morphology", "random_features": "untrained"}  # baseline: its rows


def baseline_features(data: dict[str, Any], cohort: Cohort) -> dict[str, RowStore]:
    """By the names in `data.image_baselines`; computed once, then found in the cache."""
    return {
        name: computed([KINDS[name]], cohort.images, data)[0] for name in data["image_baselines"]
    }
