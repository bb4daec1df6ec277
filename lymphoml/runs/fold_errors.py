"""A fold that fails: where it did, and whether the other folds are still trained."""

import multiprocessing
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl

from lymphoml.core.errors import RuntimeFailure, UserFacingError, as_user_error
from lymphoml.data.datamodule import BagDataModule
from lymphoml.training.finite import format_place


class FoldErrorPolicy:
    """What becomes of a fold's error: `on_fold_error`, `raise` or `skip`.

    With `skip` it is printed and the next fold is trained; `failed` has the folds that did.
    """

    def __init__(self, on_fold_error: str):
        self.skips = on_fold_error == "skip"
        self.failed: list[int] = []

    @contextmanager
    def fold(self, fold: int) -> Iterator[None]:
        """Name the fold in what the block raises, or print it."""
        try:
            yield
        except Exception as error:
            named = as_user_error(error)
            if named is not None:
                place = f"fold {fold}"
                lines = (each if each.startswith(place) else f"{place}, {each}"
                         for each in named.problems)  # fmt: skip
                named = type(named)(lines)
            if not self.skips:
                raise (named or error) from (None if named else error.__cause__)
            self.failed.append(fold)
            if named is None:
                traceback.print_exception(error)
            for line in named.problems if named else [f"fold {fold}: a bug, see above"]:
                print(f"error: {line}", file=sys.stderr)

    def close(self) -> None:
        """Raise RuntimeFailure where a fold failed."""
        if self.failed:
            plural, folds = "s" * (len(self.failed) > 1), ", ".join(map(str, self.failed))
            raise RuntimeFailure(
                f"missing: fold{plural} {folds}, for the reasons above. Rerun the same command to "
                f"train what is missing."
            )


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
