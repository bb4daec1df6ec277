"""How a process begins and ends: a job of Hydra's, a refusal in one line, an exit code."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from lymphoml.config import first_line, plain
from lymphoml.cores import available_cores
from lymphoml.errors import InputError, printable


@contextmanager
def job(config: Any) -> Iterator[tuple[dict[str, Any], Path, list[str], int]]:
    """The job's plain configuration, run folder, words and how many share the machine.

    A failure is told at once.

    A sweep goes on with its other jobs: Hydra itself would name only the first failure, at the
    end. A single job leaves at once, before Hydra adds words of its own.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        yield plain(config), folder, _words(), _jobs_side_by_side() if sweep else 1
    except Exception as error:
        if sweep:
            _tell(error, f"job {folder.name}: ")
            error.told = True  # type: ignore[attr-defined]
        elif isinstance(error, InputError):
            _tell(error)
            raise SystemExit(2) from None
        raise


def _words() -> list[str]:
    """What follows `train.py` to make this job again, also that of a sweep."""
    hydra = HydraConfig.get()
    words = list(hydra.overrides.task)
    if hydra.job.config_name == "train":
        return words
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            folder = os.path.relpath(source.path, hydra.runtime.cwd)
            return ["-cd", folder, "-cn", str(hydra.job.config_name), *words]
    return ["-cn", str(hydra.job.config_name), *words]


def _jobs_side_by_side() -> int:
    """As joblib counts them: -1 is one a core."""
    jobs = HydraConfig.get().launcher.get("n_jobs") or 1
    return jobs if jobs > 0 else max(1, available_cores() + 1 + jobs)


def entry(main: Callable[[], Any]) -> None:
    """Run an entry point: what the user must mend is a line each and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its own way and exit with 1
    try:
        main()
    except InputError as error:
        if not getattr(error, "told", False):
            _tell(error)
        sys.exit(2)
    except (HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        detail = f": {first_line(cause)}" if cause else ""
        print(f"error: {printable(first_line(error) + detail)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last finished epoch", file=sys.stderr)
        sys.exit(130)


def _tell(error: Exception, prefix: str = "") -> None:
    for problem in error.problems if isinstance(error, InputError) else [repr(error)]:
        print(f"error: {prefix}{problem}", file=sys.stderr)
