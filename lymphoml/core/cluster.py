"""The job of SLURM or Ray that this process runs in."""

import os

from lymphoml.core.errors import InputError

RAY_ATTEMPT = "LYMPHOML_RAY_ATTEMPT"  # "first" or "again", in a task of hydra/launcher=ray


def check_single_task() -> None:
    """Raise InputError where srun starts this command several times; the first one prints it."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks != "1":
        error = InputError(
            f"SLURM started this command {tasks} times at once (--ntasks); it needs one process. "
            f"Set --ntasks=1 and --cpus-per-task, and train folds side by side by a job array."
        )
        error.printed = os.environ.get("SLURM_PROCID") != "0"  # type: ignore[attr-defined]
        raise error


def is_logged() -> bool:
    """Return whether a launcher writes this process's output to a file."""
    return "SUBMITIT_EXECUTOR" in os.environ or RAY_ATTEMPT in os.environ


def was_requeued() -> bool:
    """Return whether the job ran before; what it started then may live on, on another node."""
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    return restarts != "0" or os.environ.get(RAY_ATTEMPT) == "again"
