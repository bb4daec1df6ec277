"""The images' features that baselines are made of: each cell's measures, an untrained network's."""

from typing import Any

from lymphoml.data.cohort import Cohort
from lymphoml.data.rows import RowStore
from lymphoml.features.table import Extractor, read_features


def baseline_features(data: dict[str, Any], cohort: Cohort) -> dict[str, RowStore]:
    """By the names in `data.image_baselines`; computed once, then found in the cache."""
    return {
        name: read_features(cohort.images, _extractor(name, cohort), data)[0]
        for name in data["image_baselines"]
    }


def _extractor(name: str, cohort: Cohort) -> Extractor:
    if name == "morphology":
        from lymphoml.features.cells import Morphology

        return Morphology()
    from lymphoml.features.encoded import untrained

    return untrained(cohort.images)
