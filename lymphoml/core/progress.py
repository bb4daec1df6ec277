"""The progress bar of every long step: reading images, pretraining, training."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich import get_console, progress


class ProgressBar:
    """A bar with one task, and lines above it. Threads may share it."""

    def __init__(self, bar: progress.Progress, task: progress.TaskID):
        self._progress, self._task = bar, task

    def advance(self, steps: float = 1, description: str | None = None) -> None:
        self._progress.update(self._task, advance=steps, description=description)

    def print(self, line: str) -> None:
        """Print above the bar, also where none is shown."""
        self._progress.console.print(line, soft_wrap=True, highlight=False, markup=False)


@contextmanager
def progress_bar(
    description: str, total: float, unit: str = "", shown: bool | None = None
) -> Iterator[ProgressBar]:
    """Yield the bar of `total` steps; by default it is shown on a terminal alone."""
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(),
               progress.MofNCompleteColumn(), progress.TextColumn(unit),
               progress.TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
    off = not (get_console().is_terminal if shown is None else shown)
    with progress.Progress(*columns, transient=True, disable=off) as bar:
        yield ProgressBar(bar, bar.add_task(description, total=total))
