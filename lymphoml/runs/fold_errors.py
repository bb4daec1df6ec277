"""A fold that fails: where it did, and whether the other folds are still trained."""

import multiprocessing
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl

from lymphoml.core.errors import UserFacingError, as_user_error
from lymphoml.data.datamodule import BagDataModule
from lymphoml.training.finite import format_place


@contextmanager
def fold_errors(fold: int, skip: bool, failed: list[int]) -> Iterator[None]:
    """Name the fold in what the block raises; to `skip` it, print that and add it to `failed`."""
    try:
        yield
    except Exception as error:
        named = as_user_error(error)
        if named is not None:
            place = f"fold {fold}"
            named = type(named)(each if each.startswith(place) else f"{place}, {each}"
                                for each in named.problems)  # fmt: skip
        if not skip:
            raise (named or error) from (None if named else error.__cause__)
        failed.append(fold)
        if named is None:
            traceback.print_exception(error)
        for line in named.problems if named else [f"fold {fold}: a bug, see above"]:
            print(f"error: {line}", file=sys.stderr)


class FailureContextCallback(pl.Callback):
    """Where in a fold a failure of the machine occurred: epoch, batch and patients."""

    def __init__(self, bags: BagDataModule):
        self.bags = bags
        self.where = ""

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, error: BaseException
    ) -> None:
        """Note the place: Lightning forgets it right after."""
        epoch = trainer.current_epoch
        if trainer.training:
            batch = trainer.fit_loop.epoch_loop.batch_progress.current.completed
            patients = self.bags.batch_patients(epoch, batch)
            end = f"the end of epoch {epoch + 1}"
            self.where = format_place(epoch, batch, patients) if patients else end
        elif trainer.validating:
            self.where = f"epoch {epoch + 1}, validation"
        elif trainer.predicting:
            self.where = "prediction"

    @contextmanager
    def located(self) -> Iterator[None]:
        """Add the place to what the block raises, where that can be shown to the user."""
        try:
            yield
        except Exception as error:
            for worker in multiprocessing.active_children():
                worker.kill()  # one that hangs would keep this process from ending
            lines = as_user_error(error)
            if lines is None:
                raise
            if not isinstance(error, UserFacingError) and self.where:
                lines = type(lines)(f"{self.where}: {each}" for each in lines.problems)
            raise lines from None
