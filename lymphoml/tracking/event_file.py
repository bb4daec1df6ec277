"""TensorBoard's event file, under a name of our own.

Every ready-made writer puts the host's name into the file's name.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class EventFile:
    """Scalars by epoch, for `tensorboard --logdir`; opens a new file in `folder`, use as a context.

    A fold that is resumed adds a file; TensorBoard reads a folder's files in order, as one.
    """

    def __init__(self, folder: Path):
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard looks for `tfevents` in the name, and sorts by it.
        self._records = RecordWriter(open(folder / f"events.out.tfevents.{time.time_ns()}", "wb"))
        self._event(file_version="brain.Event:2")

    def __enter__(self) -> "EventFile":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._records.close()

    def describe(self, factors: dict[str, Any]) -> None:
        """What the HParams page compares runs by."""
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(factors, {"val/balanced_accuracy": 0, "val/loss": 0}):
            self._event(summary=summary)

    def write(self, metrics: Mapping[str, float], epoch: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in metrics.items()
            if tag != "epoch"
        ]
        self._event(step=epoch, summary=Summary(value=values))

    def _event(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()
