"""How a process begins and ends: a job of Hydra's, a refusal in one line, an exit code."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from lymphoml.cli.config import first_line, validate
from lymphoml.core.cores import available_cores
from lymphoml.core.errors import InputError, UserFacingError, quoted, told
from lymphoml.core.signals import end_with_parent, reraise_interrupt
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.runs.fold_lock import fold_lock, is_done
from lymphoml.runs.settings import TrainConfig

EVALUATING = " while evaluating "  # as Hydra says it
SWEEP = "multirun.yaml"  # Hydra's own record of a sweep, which names the user's folders


@contextmanager
def job(config: Any) -> Iterator[tuple[TrainConfig, Path, list[str], int, bool]]:
    """The job's plain configuration, run folder, words, jobs that share the machine, if in a sweep.

    Its folds are this process's from here on, before anything that takes time is imported.

    A failure is told at once. A sweep goes on with its other jobs: Hydra itself would name only
    the first failure, at the end. A single job leaves at once, before Hydra adds words of its own.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())  # as it is told: no home folder
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    end_with_parent()
    if sweep:
        (folder.parent / SWEEP).unlink(missing_ok=True)
    try:
        settings = validate(config)
        reject_symlinks(folder)
        with ExitStack() as stack:
            for fold in settings.folds_to_train:
                if not is_done(folder, fold):
                    stack.enter_context(fold_lock(folder, fold))
            _check_existing_run(folder, settings)
            yield settings, folder, _words(), _jobs_side_by_side() if sweep else 1, sweep
    except Exception as error:
        reraise_interrupt()
        if sweep:
            _tell(told(error) or error, f"job {folder.name}: ")
            error.told = True  # type: ignore[attr-defined]
        elif (lines := told(error)) is not None:
            _tell(lines)
            raise SystemExit(lines.code) from None
        raise


def _check_existing_run(folder: Path, settings: TrainConfig) -> None:
    """Refuse a run folder of another configuration, before torch and cohort are loaded."""
    if not (folder / "config.yaml").exists():
        return
    from lymphoml.runs.provenance import software
    from lymphoml.runs.run_folder import check_same_run

    check_same_run(folder, settings, software(settings), settings.folds_to_train)


def clean_sweep_records() -> None:
    """Remove the records of sweeps that began no job, below `runs`."""
    for record in Path("runs").glob(f"*/{SWEEP}"):
        with suppress(OSError):  # somebody else's, in a folder that is shared
            record.unlink()


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
    """Run an entry point: what the user must mend is a line each and exit code 2.

    A machine that gave out is a line and exit code 1.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its own way and exit with 1
    try:
        main()
    except Exception as error:
        if (lines := _lines(error)) is None:
            raise
        if not getattr(error, "told", False):
            _tell(lines)
        sys.exit(lines.code)


def _lines(error: Exception) -> UserFacingError | None:
    """As `told` does, also what Hydra says of the command line and the configuration."""
    if isinstance(error, OverrideParseException):
        for line in str(error).splitlines():
            if EVALUATING in line:  # a function of the grammar
                return InputError(f"{quoted(error.override, 200)}: {line.partition(EVALUATING)[2]}")
        return InputError(
            f"{quoted(error.override, 200)}: cannot be read as key=value; a value that holds = , "
            f"or brackets goes in quotes of its own: \"key='value'\""
        )
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
        return InputError(first_line(error) + (f": {first_line(cause)}" if cause else ""))
    return told(error)


def _tell(error: Exception, prefix: str = "") -> None:
    for problem in error.problems if isinstance(error, UserFacingError) else [repr(error)]:
        print(f"error: {prefix}{problem}", file=sys.stderr)
