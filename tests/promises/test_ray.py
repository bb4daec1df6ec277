"""Ray: a cluster of two nodes on this machine, one of which is lost."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.promises.jobs import ROOT, end, one_line, outcome, python, start, wait_until
from tests.promises.test_failing_jobs import one_job_fails
from tests.promises.test_slurm import SWEEP, learnt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SECRET = "hf_only-for-this-test"
RAY = ["hydra/launcher=ray", "hydra.launcher.num_cpus=1", "hydra.launcher.num_gpus=0"]
NODES = """
import sys
from ray.cluster_utils import Cluster
node = dict(num_cpus=1, object_store_memory=80_000_000)
nodes = Cluster(True, head_node_args=dict(include_dashboard=False, **node))
second = nodes.add_node(**node)
nodes.wait_for_nodes()
print('nodes', nodes.address, nodes.head_node.get_logs_dir_path(), flush=True)
if sys.stdin.readline():
    nodes.remove_node(second, allow_graceful=False)
sys.stdin.read()
nodes.shutdown()
"""


class Nodes(NamedTuple):
    process: subprocess.Popen  # ends with its input; a line removes the second node
    address: str
    logs: Path


@pytest.fixture(scope="module")
def nodes(tmp_path_factory) -> Iterator[Nodes]:
    pytest.importorskip("ray")
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0",
             "RAY_memory_monitor_refresh_ms": "0"}  # fmt: skip
    process = start("-c", NODES, cwd=tmp_path_factory.mktemp("ray"), env=os.environ | quiet,
                    stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        _, address, logs = next(each for each in process.stdout if each.startswith("nodes")).split()
        yield Nodes(process, f"hydra.launcher.address={address}", Path(logs))
        process.communicate(timeout=60)
    finally:
        end(process)


def test_a_lost_node_ends_in_the_same_bytes(cohort, nodes, tmp_path):
    """an ablation on two nodes of Ray, one of which is killed → its job resumes on the other;
    checkpoints, predictions and metrics are those of the same sweep on a terminal; Ray's own logs
    have no output of the jobs and no secret of the environment"""
    words = [*SWEEP, f"data.root={cohort}", "lr=1e-3", "trainer.max_epochs=12"]
    done = python(*words, "name=terminal", cwd=tmp_path, limit=400)
    assert done.returncode == 0, done.stderr
    sweep = start(*words, "name=ray", *RAY, nodes.address,
                  cwd=tmp_path, env=os.environ | {"HF_TOKEN": SECRET})  # fmt: skip
    folder = tmp_path / "runs" / "ray"
    try:
        wait_until(lambda: sweep.poll() or len([*folder.glob("*/fold-0/last.ckpt")]) == 2, 300)
        nodes.process.stdin.write("remove\n")
        nodes.process.stdin.flush()
        out, err = sweep.communicate(timeout=400)
    finally:
        end(sweep)
    assert sweep.returncode == 0, out + err
    logs = [log.read_text() for log in (folder / "ray").iterdir()]
    assert ["resuming after epoch" in log for log in sorted(logs, key=len)] == [False, True]
    for run in (tmp_path / "runs" / "terminal").iterdir():
        assert outcome(folder / run.name) == outcome(run)
        for path in run.glob("*/last.ckpt"):
            assert learnt(folder / path.relative_to(run.parent)) == learnt(path)
    for path in [*nodes.logs.rglob("*.*"), *folder.rglob("*.out")]:
        text = path.read_text(errors="replace") if path.is_file() else ""
        assert SECRET not in text
        assert "balanced accuracy" not in text or path.is_relative_to(folder)


def test_a_failed_job_is_one_line(cohort, nodes, tmp_path):
    """a training on Ray fails; no node has a GPU; there is no cluster → one line with the job's
    name, the others run, exit code 1; one line, exit code 2"""
    one_job_fails(cohort, tmp_path, *RAY, nodes.address)
    words = ["-m", "lr=1e-3", "data=synthetic", f"data.root={cohort}", *RAY, nodes.address]
    refused = {"hydra.launcher.num_gpus=1": "no node has as many; the nodes have 1 and 0",
               "hydra.launcher.address=127.0.0.1:9": "address=127.0.0.1:9"}  # fmt: skip
    for word, reason in refused.items():
        done = python(ROOT / "train.py", *words, word, cwd=tmp_path)
        assert done.returncode == 2
        assert reason in one_line(done.stderr)
