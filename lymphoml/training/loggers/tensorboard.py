"""TensorBoard's event file, written at once and under a name without the host's.

Lightning's TensorBoardLogger writes from a thread, which prints a traceback when the disk is full.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from lymphoml.core.files import with_filename


class TensorBoardEvents(Logger):
    """A new event file in `folder` with scalars by epoch, and `factors` on the HParams page."""

    name, version = "tensorboard", ""

    def __init__(self, folder: Path, factors: Mapping[str, Any]):
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard.summary import hparams

        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard looks for `tfevents` in the name, and reads in the order of names.
        self.path = folder / f"events.out.tfevents.{time.time_ns()}"
        self.file = open(self.path, "wb")  # noqa: SIM115
        self._records = RecordWriter(self.file)
        self._write(file_version="brain.Event:2")
        used = {key: value for key, value in factors.items() if value is not None}
        for summary in hparams(used, {"val/balanced_accuracy": 0, "val/loss": 0}):
            self._write(summary=summary)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        values = [{"tag": tag, "simple_value": metrics[tag]} for tag in metrics if tag != "epoch"]
        self._write(step=int(metrics["epoch"]), summary={"value": values})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Log none: `factors` are."""

    def close(self) -> None:
        with with_filename(self.path):  # what is still in the buffer may not fit
            self.file.close()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with with_filename(self.path):
            self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
            self._records.flush()
