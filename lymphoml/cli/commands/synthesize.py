"""`python -m lymphoml synthesize`: a cohort whose truth is known."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import REQUIRED, option, two_values


@dataclass
class Synthesize:
    """Draw a synthetic cohort in the Kaggle layout, with the best possible scores beside it."""

    out: str = option(REQUIRED, "new folder")
    patients: int = option(60, "labelled patients")
    test_patients: int = option(15, "unlabelled patients")
    images: list[int] = option([16, 198], "images a patient, fewest and most")
    size: int = option(224, "pixels a side")
    seed: int = option(0, "another number, another cohort")
    clinical_effect: float = option(
        1.0, "share of the classes' difference in age and count, 0 to 1"
    )


def run(options: Synthesize) -> None:
    from lymphoml.data.synthetic.cohort import synthesize as draw

    out, images = Path(options.out), two_values("images", options.images)
    truth = draw(
        out, options.patients, options.test_patients, images, options.size, options.seed,
        options.clinical_effect,
    )  # fmt: skip
    print(f"{out}: {options.patients} labelled and {options.test_patients} test patients")
    for source, best in truth["best_balanced_accuracy"].items():
        print(f"  best possible balanced accuracy from {source}: {best['value']:.3f}")
