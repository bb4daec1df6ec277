"""What Lightning's Trainer needs of a logger."""

from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger


class EpochLogger(Logger):
    """Hands Lightning's metrics of an epoch to `write(metrics, epoch)`, and nothing else.

    Lightning's own loggers take every hyper-parameter too, paths included.
    """

    def __init__(self, name: str, write: Callable[[dict[str, float], int], Any]):
        super().__init__()
        self._name, self._write = name, write

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Lightning adds `epoch` to every row; its `step` counts batches, which nobody compares."""
        self._write(dict(metrics), int(metrics["epoch"]))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The tracker has told what is public."""
