"""Each image's features, computed once and kept in the cache of `lymphoml.data.cache`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lymphoml.core.progress import progress_bar
from lymphoml.data.cache import BagSource, build_missing, read_entry, write_entry
from lymphoml.data.feature_store import FeatureStore

Rows = np.ndarray  # float32 (m, d)


class Extractor(Protocol):
    """What makes rows of images. `settings` names everything that decides on them."""

    settings: str

    @property
    def names(self) -> Sequence[str]: ...

    def rows(self, sources: Sequence[BagSource]) -> Iterator[Rows | list[str]]:
        """Of each patient in turn; or a line for each image that cannot be used."""
        ...


def read_features(
    sources: Sequence[BagSource], extractor: Extractor, data: dict[str, Any]
) -> FeatureStore:
    """Return the features of each patient's images, computing those that `data.cache` lacks.

    Raises InputError with a line for each image that cannot be used, or where the cache cannot be
    written.
    """
    folder = Path(data["cache"]).expanduser() / "features" / extractor.settings

    def build(missing: list[BagSource]) -> list[str]:
        return _build(missing, folder, extractor)

    build_missing(folder, sources, (len(extractor.names),), build)
    rows = {source.patient: np.array(read_entry(source.entry(folder))) for source in sources}
    return FeatureStore(rows, extractor.names)


def _build(sources: list[BagSource], folder: Path, extractor: Extractor) -> list[str]:
    problems: list[str] = []
    total = sum(len(source.paths) for source in sources)
    with progress_bar("computing features", total) as bar:
        for source, rows in zip(sources, extractor.rows(sources), strict=True):
            if isinstance(rows, list):
                problems += rows
            else:
                write_entry(source.entry(folder), rows.shape, rows)
            bar.advance(len(source.paths))
    return problems
