"""What a process must know of the SLURM job that it runs in."""

import os

from lymphoml.core.errors import InputError


def check_single_task() -> None:
    """Raise InputError where srun starts the same command several times; the first one prints it.

    Each would train the same folds, predict or submit the same patients. Tasks that a job has, but
    that srun does not start, do no harm.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1":
        return
    error = InputError(
        f"SLURM started this command {tasks} times at once (--ntasks); it needs one process. Set "
        f"--ntasks=1 and --cpus-per-task, and train folds side by side by a job array."
    )
    error.printed = os.environ.get("SLURM_PROCID") != "0"  # type: ignore[attr-defined]
    raise error


def was_requeued() -> bool:
    """Return whether the job ran before: a process of that time may live on, on another node."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def in_launched_job() -> bool:
    """Return whether submitit started this process: what it prints is in a log."""
    return "SUBMITIT_EXECUTOR" in os.environ
