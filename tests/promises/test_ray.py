"""Ray: a cluster of two nodes on this machine, one of which is lost."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.jobs import ROOT, end, one_line, outcome, python, start, wait_until
from tests.promises.test_slurm import SWEEP, learnt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SECRET = "hf_only-for-this-test"
RAY = ["hydra/launcher=ray", "hydra.launcher.num_cpus=1", "hydra.launcher.num_gpus=0"]
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # of the whole machine's memory
        patch.setenv("RAY_worker_niceness", "0")
        nodes = utils.Cluster(True, head_node_args=NODE | {"include_dashboard": False})
        try:
            yield nodes
        finally:
            nodes.shutdown()


def test_a_lost_node_ends_in_the_same_bytes(cohort, cluster, tmp_path):
    """an ablation on two nodes of Ray, one of which is killed → its job resumes on the other;
    checkpoints, predictions and metrics are those of the same sweep on a terminal; Ray's own logs
    have no output of the jobs and no secret of the environment"""
    node = cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    words = [*SWEEP, f"data.root={cohort}", "lr=1e-3", "trainer.max_epochs=12"]
    done = python(*words, "name=terminal", cwd=tmp_path, limit=400)
    assert done.returncode == 0, done.stderr
    sweep = start(*words, "name=ray", *RAY, f"hydra.launcher.address={cluster.address}",
                  cwd=tmp_path, env=os.environ | {"HF_TOKEN": SECRET})  # fmt: skip
    folder = tmp_path / "runs" / "ray"
    try:
        wait_until(lambda: sweep.poll() or len([*folder.glob("*/fold-0/last.ckpt")]) == 2, 300)
        cluster.remove_node(node, allow_graceful=False)
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
    for path in [*Path(cluster.head_node.get_logs_dir_path()).rglob("*.*"), *folder.rglob("*.out")]:
        text = path.read_text(errors="replace") if path.is_file() else ""
        assert SECRET not in text
        assert "balanced accuracy" not in text or path.is_relative_to(folder)


def test_a_failed_job_is_one_line(cohort, cluster, tmp_path):
    """a training on Ray fails; no node has a GPU; there is no cluster → one line with the job's
    name, the others run, exit code 1; one line, exit code 2"""
    words = ["-m", "lr=3e38,1e-3", "data=synthetic", "logger=none", "trainer.max_epochs=1",
             "data.folds=2", "model/fusion=clinical", f"data.root={cohort}", *RAY]  # fmt: skip
    address = f"hydra.launcher.address={cluster.address}"
    done = python(ROOT / "train.py", *words, address, cwd=tmp_path, limit=300)
    assert done.returncode == 1, done.stderr
    (line,) = (each for each in done.stderr.splitlines() if each.startswith("error"))
    assert "lr=3e+38" in line
    assert "fold 0, epoch 1" in line
    assert len([*tmp_path.glob("runs/cv/*/metrics.json")]) == 1
    refused = {"hydra.launcher.num_gpus=1": "no node has as many; the nodes have 1 and 0",
               "hydra.launcher.address=127.0.0.1:9": "address=127.0.0.1:9"}  # fmt: skip
    for word, reason in refused.items():
        done = python(ROOT / "train.py", *words, address, word, cwd=tmp_path)
        assert done.returncode == 2
        assert reason in one_line(done.stderr)
