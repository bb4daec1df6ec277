"""TensorBoard's event file, under a name of our own.

Every ready-made writer puts the host's name into the file's name.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from lymphoml.core.files import naming


@contextmanager
def event_file(folder: Path) -> Iterator["EventFile"]:
    """A new file in `folder`, open for the block; TensorBoard reads all files there as one."""
    folder.mkdir(parents=True, exist_ok=True)
    # TensorBoard looks for `tfevents` in the name, and reads in the order of names.
    path = folder / f"events.out.tfevents.{time.time_ns()}"
    file = open(path, "wb")  # noqa: SIM115
    try:
        yield EventFile(file)
    finally:
        with naming(path):  # what is still to be written may not fit
            file.close()


class EventFile:
    """Writes scalars by epoch, each epoch at once on disk."""

    def __init__(self, file: BinaryIO):
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._path = Path(file.name)
        self._records = RecordWriter(file)
        self._event(file_version="brain.Event:2")

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

        with naming(self._path):
            self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
            self._records.flush()
