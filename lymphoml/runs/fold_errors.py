"""A fold that fails: told with its place, and, where the user wants it, no end of the others."""

import multiprocessing
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl

from lymphoml.core.errors import RuntimeFailure, UserFacingError, told
from lymphoml.core.signals import reraise_interrupt
from lymphoml.data.datamodule import BagDataModule
from lymphoml.training.finite import place


class FoldErrorPolicy:
    """Of a job's folds, each in a `fold` block; `missing` are those that failed.

    With `going_on` a fold's error is printed and the next one's block is entered. Otherwise it is
    raised, as lines for the user where it can be put in any.
    """

    def __init__(self, going_on: bool):
        self.going_on = going_on
        self.missing: list[int] = []

    @contextmanager
    def fold(self, fold: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reraise_interrupt()
            lines = told(error)
            if lines is not None:
                named = f"fold {fold}"
                lines = type(lines)(
                    each if each.startswith(named) else f"{named}, {each}"
                    for each in lines.problems
                )
            if not self.going_on:
                raise (lines or error) from (None if lines else error.__cause__)
            self.missing.append(fold)
            for line in lines.problems if lines else [f"fold {fold}: a bug, told above"]:
                if not lines:
                    traceback.print_exception(error)
                print(f"error: {line}", file=sys.stderr)

    def close(self) -> None:
        """Raises RuntimeFailure where a fold is missing."""
        if self.missing:
            folds = ", ".join(map(str, self.missing))
            raise RuntimeFailure(
                f"missing: fold{'s' * (len(self.missing) > 1)} {folds}, for the reasons above; the "
                f"same command tries again, and leaves alone what is done"
            )


class FailureContextCallback(pl.Callback):
    """Where in a fold a machine's failure hit: epoch, batch and patients."""

    def __init__(self, bags: BagDataModule):
        self.bags = bags
        self.where = ""

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, error: BaseException
    ) -> None:
        """Lightning forgets what it was doing right after."""
        epoch = trainer.current_epoch
        if trainer.training:
            batch = trainer.fit_loop.epoch_loop.batch_progress.current.completed
            patients = self.bags.batch_patients(epoch, batch)
            self.where = (
                place(epoch, batch, patients) if patients else f"the end of epoch {epoch + 1}"
            )
        elif trainer.validating:
            self.where = f"epoch {epoch + 1}, validation"
        elif trainer.predicting:
            self.where = "prediction"

    @contextmanager
    def told(self) -> Iterator[None]:
        """What the block raises, with its place, where it can be put in lines for the user."""
        try:
            yield
        except Exception as error:
            for worker in multiprocessing.active_children():
                worker.kill()  # one that hangs would keep this process from ending
            lines = told(error)
            if lines is None:
                raise
            if not isinstance(error, UserFacingError) and self.where:
                lines = type(lines)(f"{self.where}: {each}" for each in lines.problems)
            raise lines from None
