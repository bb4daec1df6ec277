"""How a process begins and ends: a Hydra job, bad input in one line, an exit code."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from lymphoml.cli.config import first_line, validate
from lymphoml.core.cores import available_cores
from lymphoml.core.errors import InputError, UserFacingError, as_user_error, quoted
from lymphoml.core.signals import end_with_parent
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.runs.fold_lock import fold_lock, is_done
from lymphoml.runs.settings import TrainConfig

EVALUATING = " while evaluating "  # as Hydra writes it
SWEEP = "multirun.yaml"  # Hydra's own record of a sweep, which names the user's folders


class Job(NamedTuple):
    config: TrainConfig
    folder: Path  # the run folder
    overrides: list[str]  # what follows `train.py` to run this job again
    parallel_jobs: int  # that share the machine, this one included
    in_sweep: bool


@contextmanager
def job_context(composed: Any) -> Iterator[Job]:
    """Yield the job that Hydra starts, its folds locked, before anything slow is imported.

    A failure is printed at once. A sweep goes on with its other jobs: Hydra itself would name only
    the first failure, at the end. A single job exits at once, before Hydra adds its own message.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())  # as it is shown: no home folder
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    end_with_parent()
    if in_sweep:
        (folder.parent / SWEEP).unlink(missing_ok=True)
    try:
        config = validate(composed)
        reject_symlinks(folder)
        with ExitStack() as stack:
            for fold in config.folds_to_train:
                if not is_done(folder, fold):
                    stack.enter_context(fold_lock(folder, fold))
            _check_existing_run(folder, config)
            jobs = _parallel_jobs() if in_sweep else 1
            yield Job(config, folder, _overrides(), jobs, in_sweep)
    except Exception as error:
        readable = as_user_error(error)
        if in_sweep:
            print_error(readable or error, f"job {folder.name}: ")
            error.printed = True  # type: ignore[attr-defined]
        elif readable is not None:
            print_error(readable)
            raise SystemExit(readable.code) from None
        raise


def _check_existing_run(folder: Path, config: TrainConfig) -> None:
    """Refuse a run folder of another configuration, before torch and cohort are loaded."""
    if not (folder / "config.yaml").exists():
        return
    from lymphoml.runs.provenance import software
    from lymphoml.runs.run_folder import check_same_run

    check_same_run(folder, config, software(config), config.folds_to_train)


def clean_sweep_records() -> None:
    """Remove the records of sweeps that started no job, below `runs`."""
    for record in Path("runs").glob(f"*/{SWEEP}"):
        with suppress(OSError):  # another user's, in a shared folder
            record.unlink()


def run_cli(main: Callable[[], Any]) -> None:
    """Run an entry point: bad input is a line per problem and exit code 2.

    A machine that failed is a line and exit code 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print in its own way and exit with 1
    # joblib's own process cleans up after a sweep that was stopped, and would print that it does.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    try:
        main()
    except Exception as error:
        readable = _hydra_error(error) or as_user_error(error)
        if readable is None:
            raise
        if not getattr(error, "printed", False):
            print_error(readable)
        sys.exit(readable.code)


def print_error(error: Exception, prefix: str = "") -> None:
    for problem in error.problems if isinstance(error, UserFacingError) else [repr(error)]:
        print(f"error: {prefix}{problem}", file=sys.stderr)


def _hydra_error(error: Exception) -> InputError | None:
    """Return what Hydra finds wrong with the command line and the configuration files."""
    if isinstance(error, OverrideParseException):
        for line in str(error).splitlines():
            if EVALUATING in line:  # a function of the grammar
                return InputError(f"{quoted(error.override, 200)}: {line.partition(EVALUATING)[2]}")
        return InputError(
            f"{quoted(error.override, 200)}: cannot be read as key=value; quote a value that has "
            f"= , or brackets: \"key='value'\""
        )
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        return InputError(first_line(error) + (f": {first_line(cause)}" if cause else ""))
    return None


def _overrides() -> list[str]:
    hydra = HydraConfig.get()
    overrides = list(hydra.overrides.task)
    if hydra.job.config_name == "train":
        return overrides
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            folder = os.path.relpath(source.path, hydra.runtime.cwd)
            return ["-cd", folder, "-cn", str(hydra.job.config_name), *overrides]
    return ["-cn", str(hydra.job.config_name), *overrides]


def _parallel_jobs() -> int:
    """Return the launcher's jobs, as joblib counts them: -1 is one a core."""
    jobs = HydraConfig.get().launcher.get("n_jobs") or 1
    return jobs if jobs > 0 else max(1, available_cores() + 1 + jobs)
