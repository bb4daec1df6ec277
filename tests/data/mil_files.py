"""Bags whose signal is planted, written as the benchmark sets are handed around."""

from pathlib import Path

import numpy as np
from scipy.io import savemat
from scipy.sparse import csc_matrix

SUFFIXES = (".data", ".svm", ".csv", ".mat")
Bags = dict[str, tuple[int, np.ndarray]]  # by name: label, features (m, d)


def draw_mil_bags(count: int = 40, width: int = 12, size: int = 6, seed: int = 0) -> Bags:
    """Half of them positive: one or two of their instances lie apart. Half of all values are 0."""
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
    """In the format of its suffix. Instances are numbered through the file."""
    rows = [
        (bag, label, [float(f"{value:.3f}") for value in values])
        for bag, (label, features) in bags.items()
        for values in features
    ]
    if path.suffix == ".mat":
        savemat(
            path,
            {
                "features": csc_matrix(np.array([values for *_, values in rows])),
                "bag_ids": np.array([[int(bag) for bag, *_ in rows]], np.uint16),
                "labels": csc_matrix([[2.0 * label - 1 for _, label, _ in rows]]),
            },
            do_compression=True,
        )
        return path
    writer = {".data": _data, ".svm": _svm, ".csv": _csv}[path.suffix]
    header = "bag,label," + ",".join(f"x{i}" for i in range(len(rows[0][2])))
    lines = [header] * (path.suffix == ".csv")
    lines += [writer(number, *row) for number, row in enumerate(rows, start=1)]
    path.write_text("\n".join(lines) + "\n")
    return path


def _data(number: int, bag: str, label: int, values: list[float]) -> str:
    return ",".join([bag, f"{bag}_{number}+1", *map(repr, values), f"{label}."])


def _svm(number: int, bag: str, label: int, values: list[float]) -> str:
    pairs = (f"{place}:{value!r}" for place, value in enumerate(values, start=1) if value)
    return " ".join([f"{number}:{bag}:{2 * label - 1:d}", *pairs])


def _csv(number: int, bag: str, label: int, values: list[float]) -> str:
    return ",".join([bag, str(label), *map(repr, values)])
