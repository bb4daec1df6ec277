"""A small cohort on disk in the Kaggle layout, to plant things in."""

from pathlib import Path

import numpy as np
from PIL import Image

from lymphoml.cli.config import data_config
from lymphoml.data.settings import DataConfig

TRAIN = "trainset/trainset_true.csv"
HEADER = "ID,LABEL,GENDER,DOB,LYMPH_COUNT"


def write_cohort(root: Path, train: int = 24, test: int = 4, side: int = 24) -> DataConfig:
    """Patients P1.. of 3 noisy images, every third reactive, all different; its settings."""
    random = np.random.default_rng(0)
    for part, name, numbers in (
        ("trainset", "trainset_true", range(1, train + 1)),
        ("testset", "testset_data", range(train + 1, train + test + 1)),
    ):
        rows = []
        for number in random.permutation(numbers):
            label = -1 if part == "testset" else int(number % 3 > 0)
            birth = f"{number}-1-{1930 + number}" if number > 12 else f"1/{number}/{1930 + number}"
            birth = birth if number <= 28 else f"{number - 12}-2-1950"
            count = round(float(np.exp(random.normal(1.5 + 0.3 * label, 0.5))), 2)
            rows.append(f"P{number},{label},{'FM'[number % 2]},{birth},{count}")
            folder = root / part / f"P{number}"
            folder.mkdir(parents=True)
            for image in range(3):
                noise = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
                Image.fromarray(noise).save(folder / f"{image:06}.jpg", format="PNG")
        (root / part / f"{name}.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return data_config("lymphocytosis", {"root": str(root)})
