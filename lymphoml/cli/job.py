"""A job of `train.py`: what Hydra starts, once or for each configuration of a sweep."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from lymphoml.cli.config import CONF, validate
from lymphoml.cli.entry import print_error
from lymphoml.cli.environment import set_up_process
from lymphoml.core.cluster import check_single_task, is_logged
from lymphoml.core.cores import available_cores
from lymphoml.core.errors import as_user_error
from lymphoml.core.signals import end_with_parent, install_signal_handlers
from lymphoml.core.untrusted import reject_symlinks
from lymphoml.runs.naming import slug

if TYPE_CHECKING:
    from lymphoml.runs.settings import TrainConfig

SWEEP = "multirun.yaml"  # Hydra's own record of a sweep, which names the user's folders


class Job(NamedTuple):
    config: "TrainConfig"
    folder: Path  # the run folder
    overrides: list[str]  # what follows `train.py` to run this job again
    parallel_jobs: int  # that share the machine, this one included
    in_sweep: bool
    choices: dict[str, Any]  # the option of each group of conf/


@contextmanager
def job_context(composed: Any) -> Iterator[Job]:
    """Yield the job that Hydra starts, its folds locked; print its failure, let a sweep go on."""
    set_up_process()  # a cluster starts a job in a process of its own
    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder.is_relative_to(Path.cwd()):
        folder = folder.relative_to(Path.cwd())  # as it is shown: no home folder
    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    end_with_parent()
    if is_logged():  # not on the user's terminal
        install_signal_handlers("a requeued job resumes from the last finished epoch")
    if in_sweep:
        (folder.parent / SWEEP).unlink(missing_ok=True)
    try:
        from lymphoml.runs.fold_lock import fold_lock, is_done

        check_single_task()
        config = validate(composed)
        reject_symlinks(folder)
        with ExitStack() as stack:
            for fold in config.folds_to_train:
                if not is_done(folder, fold):
                    stack.enter_context(fold_lock(folder, fold))
            _check_existing_run(folder, config)
            jobs = _parallel_jobs() if in_sweep else 1
            choices = dict(HydraConfig.get().runtime.choices)
            yield Job(
                config, folder, _overrides(folder, config.name, in_sweep), jobs, in_sweep, choices
            )
    except Exception as error:
        readable = as_user_error(error)
        if in_sweep:
            prefix = f"job {folder.name}: "
            print_error(readable or error, prefix)
            error.prefix, error.printed = prefix, not is_logged()  # type: ignore[attr-defined]
        elif readable is not None:
            print_error(readable)
            raise SystemExit(readable.code) from None
        raise


def _check_existing_run(folder: Path, config: "TrainConfig") -> None:
    """Refuse a run folder of another configuration, before torch and cohort are loaded."""
    if not (folder / "config.yaml").exists():
        return
    from lymphoml.features.pretraining.settings import resolve_pretraining
    from lymphoml.runs.provenance import software
    from lymphoml.runs.run_folder import check_same_run

    config = resolve_pretraining(config)
    check_same_run(folder, config, software(config))


def clean_sweep_records() -> None:
    """Remove the records of sweeps that started no job, below `runs`."""
    for record in Path("runs").glob(f"*/{SWEEP}"):
        with suppress(OSError):  # another user's, in a shared folder
            record.unlink()


def _overrides(folder: Path, name: str, in_sweep: bool) -> list[str]:
    """Return the words of train.py that run this job alone: its file may sweep what they set."""
    hydra = HydraConfig.get()
    folders = [each.path for each in hydra.runtime.config_sources
               if each.provider == "command-line"]  # fmt: skip
    words = ["-cd", os.path.relpath(folders[0], hydra.runtime.cwd)] if folders else []
    named = [] if hydra.job.config_name == "train" else ["-cn", str(hydra.job.config_name)]
    alone = ["hydra.mode=RUN"] if named and in_sweep else []
    usual = Path("runs", name, slug(hydra.overrides.task))
    if folder != usual and not folder.is_absolute():  # elsewhere it describes the machine
        plain = re.fullmatch(r"[\w./-]+", str(folder))
        alone.append(f"hydra.run.dir={folder}" if plain else f'hydra.run.dir="{folder}"')
    return [*words, *named, *hydra.overrides.task, *alone]


def _parallel_jobs() -> int:
    """Return the launcher's jobs on a machine, as joblib counts them: -1 is one a core."""
    launcher = HydraConfig.get().launcher
    jobs = launcher.get("n_jobs") or launcher.get("jobs_per_node") or 1
    return jobs if jobs > 0 else max(1, available_cores() + 1 + jobs)


def print_help() -> None:
    """Print the groups of `conf/` and its main file, in a tenth of the time that Hydra takes."""
    print("usage: python train.py [-m] [-cd DIR -cn NAME] key=value GROUP=OPTION ...\n")
    print("-m runs a sweep: key=a,b. --cfg job shows the configuration instead of running.")
    print("Hydra's other options: --hydra-help\n\nGroups and options:")
    for group in sorted({path.parent for path in CONF.glob("**/*.yaml")} - {CONF}):
        options = sorted(path.stem for path in group.glob("*.yaml") if path.stem != "base")
        print(f"  {group.relative_to(CONF).as_posix()}: {', '.join(options)}")
    print(f"\n{(CONF / 'train.yaml').read_text()}")
