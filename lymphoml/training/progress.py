"""One progress bar for a whole job: fold, epoch, images per second, time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from lymphoml.core.types import Batch


class Bar:
    """The bar, and lines above it."""

    def __init__(self, progress: Progress, task: TaskID):
        self.progress, self.task = progress, task

    def skip(self, epochs: int) -> None:
        self.progress.advance(self.task, epochs)

    def say(self, line: str) -> None:
        """Above the bar, also where none is shown."""
        self.progress.console.print(line, soft_wrap=True, highlight=False, markup=False)


class FoldProgress(pl.Callback):
    """Moves the job's bar by fractions of an epoch."""

    def __init__(self, bar: Bar, fold: int, epochs: int):
        self.bar, self.fold, self.epochs = bar, fold, epochs

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if trainer.current_epoch:
            self.bar.skip(trainer.current_epoch)
            self.bar.say(
                f"fold {self.fold} goes on after epoch {trainer.current_epoch} of {self.epochs}"
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.images, self.started = 0, time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.bar.skip(self.epochs - trainer.current_epoch)  # those that early stopping saved

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        self.images += len(batch.images)
        speed = self.images / max(time.perf_counter() - self.started, 1e-9)
        self.bar.progress.update(
            self.bar.task,
            advance=1 / int(trainer.num_training_batches),
            description=f"fold {self.fold}  epoch {trainer.current_epoch + 1}/{self.epochs}  "
            f"{speed:.0f} images/s",
        )


@contextmanager
def progress_bar(shown: bool, epochs: int) -> Iterator[Bar]:
    """The bar of a job of so many epochs, all folds together."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, transient=True, disable=not shown) as progress:
        yield Bar(progress, progress.add_task("", total=epochs))
