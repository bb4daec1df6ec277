"""Each image's features, computed once and kept: a verified part a patient, named by its content.

The cache is as that of decoded images: an interrupted build goes on where it was, a changed image
rebuilds its patient's part alone, damaged parts are built anew, one process builds at a time.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lymphoml.core.errors import InputError, cache_refusal
from lymphoml.data.cache import FLOATS, MISSING, Shape, Source, check_part, open_part, write_entry
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.image_store import locked, progress_bar, shortened

Rows = np.ndarray  # float32 (m, d)


class Extractor(Protocol):
    """What makes rows of images. `settings` names everything that decides on them."""

    settings: str

    @property
    def names(self) -> Sequence[str]: ...

    def rows(self, sources: Sequence[Source]) -> Iterator[Rows | list[str]]:
        """Of each patient in turn; or a line for each image that cannot be used."""
        ...


def read_features(
    sources: Sequence[Source], extractor: Extractor, data: dict[str, Any]
) -> FeatureStore:
    """The features of each patient's images.

    Computes those that `data.cache` lacks. Raises InputError with a line for each image that
    cannot be used, or one where the cache cannot take the parts.
    """
    folder = Path(data["cache"]).expanduser() / "features" / extractor.settings
    width = len(extractor.names)
    try:
        if _lacking(sources, folder, width):
            with locked(folder):  # whoever held it before has built some of them
                _build(_lacking(sources, folder, width), folder, extractor)
    except OSError as error:
        raise cache_refusal(f"features {folder}", error) from None
    rows = {source.patient: np.array(open_part(source.part(folder))) for source in sources}
    return FeatureStore(rows, extractor.names)


def _lacking(sources: Sequence[Source], folder: Path, width: int) -> list[Source]:
    return [each for each in sources if _state(each, folder) != (len(each.paths), width)]


def _state(source: Source, folder: Path) -> Shape | str:
    # A file that cannot be read has no digest, and must not be left out of the name unseen.
    return check_part(source.part(folder), FLOATS) if all(source.digests) else MISSING


def _build(sources: Sequence[Source], folder: Path, extractor: Extractor) -> None:
    if not sources:
        return
    total = sum(len(source.paths) for source in sources)
    print(f"features {folder}: computing those of {total:,} images", flush=True)
    problems: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("computing features", total=total)
        for source, rows in zip(sources, extractor.rows(sources), strict=True):
            if isinstance(rows, list):
                problems += rows
            else:
                write_entry(source.part(folder), rows.shape, rows, FLOATS)
            bar.advance(task, len(source.paths))
    if problems:
        raise InputError(shortened(problems))
