"""Feature vectors of images in place of their pixels, in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # a report opens a cohort without torch
    from torch import Tensor


class FeatureStore:
    """float32 (m, d) of each patient's images; `widths` of blocks, `encoder` if a file says so."""

    def __init__(
        self, features: Mapping[str, np.ndarray], names: Sequence[str],
        widths: Sequence[int] | None = None, encoder: str | None = None,
    ):  # fmt: skip
        self.names, self.encoder = list(names), encoder
        self.widths = list(widths or [len(self.names)])
        self.lengths = [len(vectors) for vectors in features.values()]
        self._features = dict(features)

    def bag(self, patient: str) -> np.ndarray:
        return self._features[patient]


def concat_features(stores: Sequence[FeatureStore], patients: Iterable[str]) -> FeatureStore:
    """Return the features of several stores of the same images as one, each of them a block."""
    features = {
        each: np.concatenate([store.bag(each) for store in stores], axis=1) for each in patients
    }
    names = [name for store in stores for name in store.names]
    return FeatureStore(features, names, [len(store.names) for store in stores])


@dataclass(frozen=True)
class FeatureScaler:
    """Scale each feature to zero mean and unit variance over the images it was fitted to.

    `weights`, if any, balance blocks of any width. Holds only primitives, for a checkpoint.
    """

    names: list[str]
    mean: list[float]
    scale: list[float]
    weights: list[float]

    @classmethod
    def fit(
        cls, store: FeatureStore, patients: Sequence[str], balance_blocks: bool = False
    ) -> "FeatureScaler":
        """Fit to every image of these patients, each counting once."""
        mean, scale = mean_std(np.concatenate([store.bag(patient) for patient in patients]))
        average = sum(store.widths) / len(store.widths)
        weights = [(average / width) ** 0.5 for width in store.widths for _ in range(width)]
        return cls(store.names, mean.tolist(), scale.tolist(), weights if balance_blocks else [])

    def __call__(self, features: "Tensor") -> "Tensor":
        scaled = (features - features.new_tensor(self.mean)) / features.new_tensor(self.scale)
        return scaled * features.new_tensor(self.weights) if self.weights else scaled

    def state(self) -> dict[str, Any]:
        return asdict(self)


def mean_std(features: np.ndarray, noise: float = 1e-6) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation (1 where it is rounding `noise`) of each column; (d)."""
    features = features.astype(float)
    constant = is_constant(features, noise)
    return features.mean(axis=0), np.where(constant, 1.0, features.std(axis=0))


def is_constant(features: np.ndarray, noise: float) -> np.ndarray:
    """Return of each column (d) whether its values differ by rounding `noise` at most."""
    return np.ptp(features, axis=0) <= noise * np.abs(features).max(axis=0, initial=0)
