"""Synthetic cohorts of any shape, quickly: few drawn images, linked as often as a bag needs."""

import os
from pathlib import Path

from benchmarks.speed.jobs import Condition
from lymphoml.data.synthetic.cohort import synthesize

MOST_DRAWN = 4  # images a patient; the others are links to these, read and decoded all the same


def make_cohort(folder: Path, condition: Condition) -> Path:
    """The condition's cohort in Kaggle's layout, drawn unless it is there."""
    root = folder / f"{condition.patients}x{condition.bag}-{condition.size}px"
    if root.exists():
        return root
    drawn = min(condition.bag, MOST_DRAWN)
    synthesize(root, condition.patients, 1, (drawn, drawn), condition.size, seed=0)
    for patient in sorted(path for path in (root / "trainset").iterdir() if path.is_dir()):
        for number in range(drawn, condition.bag):
            os.link(patient / f"{number % drawn:06d}.jpg", patient / f"{number:06d}.jpg")
    return root
