"""Bags whose signal is planted, written as `data.layout=mil_table` reads them."""

from pathlib import Path

import numpy as np
import pandas as pd

SUFFIXES = (".csv", ".npz")
Bags = dict[str, tuple[int, np.ndarray]]  # by name: label, features (m, d)


def draw_mil_bags(count: int = 40, width: int = 12, size: int = 6, seed: int = 0) -> Bags:
    """Half of them positive: one or two of their instances differ. Half of all values are 0."""
    random = np.random.default_rng(seed)
    bags = {}
    for number in range(count):
        features = random.normal(0, 1, (int(random.integers(2, size + 1)), width))
        features[random.random(features.shape) < 0.5] = 0
        label = number % 2
        if label:
            features[: random.integers(1, 3), :3] += 6
        bags[f"{number + 1}"] = (label, features.astype(np.float32).round(3))
    return bags


def write_mil_bags(path: Path, bags: Bags) -> Path:
    """Write the bags in the format of the path's suffix."""
    names = np.repeat(list(bags), [len(features) for _, features in bags.values()])
    labels = np.array([bags[name][0] for name in names])
    features = np.concatenate([features for _, features in bags.values()])
    if path.suffix == ".npz":
        np.savez_compressed(path, bag=names, label=2 * labels - 1, features=features)
        return path
    table = pd.DataFrame(features, columns=[f"x{i}" for i in range(features.shape[1])])
    table.insert(0, "bag", names)
    table.insert(1, "label", labels)
    table.to_csv(path, index=False)
    return path
