"""Rows of numbers in place of pixels: what was measured or computed of each image, in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor


class FeatureStore:
    """The rows of each patient's images, float32 (m, d), in the order of the cohort's images.

    `names` are those of the d columns, `widths` how many of them each part has that stands side by
    side. Stands where an ImageStore does.
    """

    def __init__(
        self,
        rows: Mapping[str, np.ndarray],
        names: Sequence[str],
        widths: Sequence[int] | None = None,
    ):
        self.names = list(names)
        self.widths = list(widths or [len(self.names)])
        self._rows = dict(rows)

    def bag(self, patient: str) -> np.ndarray:
        return self._rows[patient]

    def length(self, patient: str) -> int:
        return len(self._rows[patient])

    @property
    def lengths(self) -> list[int]:
        return [len(rows) for rows in self._rows.values()]


def side_by_side(stores: Sequence[FeatureStore], patients: Iterable[str]) -> FeatureStore:
    """The rows of several stores of the same images as one, each of them a part."""
    rows = {each: np.concatenate([store.bag(each) for store in stores], 1) for each in patients}
    names = [name for store in stores for name in store.names]
    return FeatureStore(rows, names, [len(store.names) for store in stores])


@dataclass(frozen=True)
class FeatureScaler:
    """What a model sees of rows: each column at zero mean and unit variance over training images.

    Holds nothing but primitives, so that `state` can travel in a checkpoint.
    """

    names: list[str]
    mean: list[float]
    scale: list[float]
    random = False  # rows are not augmented

    @classmethod
    def fit(cls, store: FeatureStore, patients: Sequence[str]) -> "FeatureScaler":
        """From every image of these patients, each counting once."""
        mean, scale = moments(np.concatenate([store.bag(patient) for patient in patients]))
        return cls(store.names, mean.tolist(), scale.tolist())

    def __call__(self, rows: Tensor) -> Tensor:
        mean, scale = (rows.new_tensor(values) for values in (self.mean, self.scale))
        return (rows - mean) / scale

    def state(self) -> dict[str, Any]:
        return asdict(self)


def moments(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column, 1 where it is constant; float64 (d)."""
    rows = rows.astype(float)
    # A constant's deviation is rounding noise; dividing by it would blow up other images.
    constant = np.ptp(rows, axis=0) <= 1e-6 * np.abs(rows).max(axis=0, initial=0)
    return rows.mean(axis=0), np.where(constant, 1.0, rows.std(axis=0))
