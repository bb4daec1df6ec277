"""What the report's whole table costs at a measured speed."""

from typing import NamedTuple

HOUR = 3600


class Table(NamedTuple):
    """The report's Figure 3: every configuration cross-validated."""

    images: int = 13_453  # labelled
    folds: int = 5
    epochs: int = 20
    configurations: int = 8

    @property
    def training_images(self) -> int:
        return self.images * (self.folds - 1) * self.epochs * self.configurations

    @property
    def validation_images(self) -> int:
        return self.images * self.epochs * self.configurations


PAPER = Table()


def hours(
    training: float,
    inference: float,
    first_step_seconds: float,
    decode_seconds: float = 0.0,
    table: Table = PAPER,
) -> float:
    """From images a second of training and inference, the start of each configuration's process,
    and the seconds that decoding one image once takes (0 where each epoch's speed contains it)."""
    return (
        table.training_images / training
        + table.validation_images / inference
        + table.configurations * first_step_seconds
        + table.images * decode_seconds
    ) / HOUR
