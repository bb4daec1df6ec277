"""How a sweep runs on a cluster: SLURM, where a command need not wait for its jobs, and Ray.

Hydra takes launchers from `hydra_plugins` alone, and imports all that is there at each start:
nothing here may be slow to import, or fail where an extra is not installed.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import MISSING, DictConfig

from lymphoml.core.cluster import RAY_ATTEMPT
from lymphoml.core.errors import RESUME, InputError, RuntimeFailure, one_line
from lymphoml.core.files import write_json
from lymphoml.core.signals import install_signal_handlers
from lymphoml.core.untrusted import read_mapping
from lymphoml.runs.naming import slug

STORE = ConfigStore.instance()

with suppress(ImportError):  # the extra `launchers`
    from hydra_plugins.hydra_submitit_launcher import config as submitit_config
    from hydra_plugins.hydra_submitit_launcher import submitit_launcher

    @dataclass
    class SlurmConf(submitit_config.SlurmQueueConf):
        _target_: str = f"{__name__}.SlurmLauncher"
        wait: bool = MISSING

    STORE.store(group="hydra/launcher", name="slurm_array", node=SlurmConf, provider="lymphoml")

    class SlurmLauncher(submitit_launcher.SlurmLauncher):
        """submitit's, which submits no job again while it runs, and leaves with `wait=false`."""

        def launch(
            self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
        ) -> Sequence[JobReturn]:
            import submitit

            options = dict(self.params)
            wait, folder = options.pop("wait"), Path(options.pop("submitit_folder"))
            executor = submitit.AutoExecutor(
                folder, cluster="slurm", slurm_max_num_timeout=options.pop("max_num_timeout")
            )
            general = submitit_config.BaseQueueConf.__dataclass_fields__
            executor.update_parameters(
                **{key if key in general else f"slurm_{key}": options[key] for key in options}
            )
            names, record = [_name(words) for words in job_overrides], folder / "jobs.json"
            earlier = _reject_active(record, names)
            numbers = range(initial_job_idx, initial_job_idx + len(names))
            constant = [("hydra.sweep.dir", each, "", Singleton.get_state()) for each in numbers]
            jobs = executor.map_array(self, map(list, job_overrides), *zip(*constant, strict=True))
            ids = [str(job.job_id) for job in jobs]
            write_json(record, earlier | dict(zip(names, ids, strict=True)))
            print("\n".join(map("job {}: {}".format, ids, names)))
            array, sweep = ids[0].partition("_")[0], folder.parent
            print(f"to look: squeue --jobs={array}; sacct --jobs={array}; logs: {folder}/{array}_*")
            sys.stdout.flush()
            if wait:
                return [job.results()[0] for job in jobs]
            lymphoml = "python -m lymphoml"
            print(f"to collect: {lymphoml} list runs={sweep}; {lymphoml} compare runs={sweep}")
            return []


def _name(words: Sequence[str]) -> str:
    """Return the name of a job's run folder, with its fold where one is given."""
    return " ".join([slug(words), *(word for word in words if word.startswith("fold="))])


def _reject_active(record: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the number of the last job of each name; InputError where one of `names` has one."""
    if not record.exists():
        return {}
    earlier = read_mapping(record, "remove it once `squeue --me` shows no job of this sweep")
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %t"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        raise RuntimeFailure(f"squeue fails: {' '.join(listed.stderr.split())}; {RESUME}")
    states = dict(line.split() for line in listed.stdout.splitlines())
    active = [each for each in names if states.get(earlier.get(each, ""), "CG") != "CG"]  # ending
    if active:
        raise InputError(
            f"still queued or running: {len(active)} of these {len(names)} jobs, first "
            f"{earlier[active[0]]} ({active[0]}). Wait for them, or stop them (scancel)."
        )
    return earlier


@dataclass
class RayConf:
    _target_: str = f"{__name__}.RayLauncher"
    address: str = MISSING
    num_cpus: int = MISSING
    num_gpus: int = MISSING
    max_retries: int = MISSING
    log_folder: str = MISSING
    jobs_per_node: int = MISSING


STORE.store(group="hydra/launcher", name="ray_tasks", node=RayConf, provider="lymphoml")


class RayLauncher(Launcher):
    """A Ray task for each job, repeated by Ray where its process or its node is lost."""

    def __init__(self, address: str, log_folder: str, jobs_per_node: int, **task: int):
        self.address, self.folder, self.task = address, Path(log_folder), task

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.shared = hydra_context, config, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        ray, run, jobs = self._connect()
        started = time.strftime("%Y%m%d-%H%M%S")
        self.folder.mkdir(parents=True, exist_ok=True)
        tasks = []
        for number, words in enumerate(job_overrides, initial_job_idx):
            log = self.folder / f"{started}_{number}.out"
            print(f"{log}: {_name(words)}", flush=True)
            words = [*words, f"hydra.launcher.jobs_per_node={jobs}"]
            job = number, words, *self.shared, Singleton.get_state()
            tasks.append(run.remote(Path.cwd(), log, *job))
        results = [_result(ray, *each) for each in zip(tasks, job_overrides, strict=True)]
        ray.shutdown()
        return results

    def _connect(self) -> tuple[Any, Any, int]:
        """Return the module ray, connected, `_run` as a task, and how many share a node's memory.

        Raises InputError without Ray, a cluster, or a node that is large enough.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            ray: Any = import_module("ray")
            run = ray.remote(max_calls=1, **self.task)(_run)  # each in a process of its own
            host, _, port = self.address.rpartition(":")
            if port.isdigit():  # where nobody listens Ray would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(self.address, include_dashboard=False, log_to_driver=False, logging_level=50)
        except ImportError:
            raise InputError("hydra/launcher=ray: pip install ray first") from None
        except (OSError, RuntimeError, ValueError) as error:
            reason = one_line(error)[:300]
            raise InputError(f"hydra.launcher, address={self.address}: {reason}") from None
        install_signal_handlers(RESUME.removeprefix("then "))  # instead of Ray's
        cpus, gpus = self.task["num_cpus"], self.task["num_gpus"]
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        have = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
        fit = [cpu for cpu, gpu in have if cpu >= cpus and gpu >= gpus]
        if not fit:
            raise InputError(
                f"hydra.launcher.num_cpus={cpus} and .num_gpus={gpus}: no node has as many; the "
                f"nodes have {', '.join(map('{0[0]} and {0[1]}'.format, have))}"
            )
        return ray, run, 1 if gpus else max(fit) // max(cpus, 1)


def _run(cwd: Path, log: Path, *job: Any) -> JobReturn:
    """Run a job as a task: in the command's folder, with its output in `log`."""
    from hydra_plugins.hydra_joblib_launcher._core import execute_job

    os.chdir(cwd)
    os.environ[RAY_ATTEMPT] = "again" if log.exists() else "first"
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # may name patients
    for stream in (1, 2):
        os.dup2(file, stream)
    return execute_job(*job)


def _result(ray: Any, task: Any, words: Sequence[str]) -> JobReturn:
    """Return a task's result, or its failure where Ray gave it up."""
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        failure = RuntimeFailure(f"Ray: {one_line(error)[:300]}; {RESUME}")
        return JobReturn(words, status=JobStatus.FAILED, _return_value=failure)
