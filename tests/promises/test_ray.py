"""Ray: a cluster of two nodes on this machine, one of which is lost."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.promises.jobs import ROOT, end, outcome, python, start, wait_until
from tests.promises.test_slurm import SWEEP, learnt

slow = pytest.mark.slow
SECRET = "hf_only-for-this-test"
LAUNCHER = ["hydra/launcher=ray", "hydra.launcher.num_cpus=1", "hydra.launcher.num_gpus=0"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    utils = pytest.importorskip("ray.cluster_utils")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # other processes' memory is no matter
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))
        options = {"num_cpus": 1, "object_store_memory": 80_000_000}
        head = utils.Cluster(
            initialize_head=True, head_node_args=options | {"include_dashboard": False}
        )
        try:
            yield head
        finally:
            head.shutdown()


@slow
@pytest.mark.timeout(1200)
def test_a_lost_node_ends_in_the_same_bytes(cohort, cluster, tmp_path):
    """an ablation on two nodes of Ray, one of which is killed → its job runs again on the other and
    resumes; checkpoints, predictions and metrics are those of the same sweep on a terminal"""
    node = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    cluster.wait_for_nodes()
    words, address = [*SWEEP, f"data.root={cohort}"], f"hydra.launcher.address={cluster.address}"
    done = python(*words, "name=terminal", cwd=tmp_path, limit=600)
    assert done.returncode == 0, done.stderr
    sweep = start(*words, "name=ray", *LAUNCHER, address, cwd=tmp_path,
                  env=os.environ | {"HF_TOKEN": SECRET})  # fmt: skip
    folder = tmp_path / "runs" / "ray"
    try:
        wait_until(lambda: sweep.poll() or len([*folder.glob("*/fold-0/last.ckpt")]) >= 2, 200)
        cluster.remove_node(node, allow_graceful=False)
        out, err = sweep.communicate(timeout=600)
    finally:
        end(sweep)
    assert sweep.returncode == 0, out + err
    assert err == ""
    logs = [log.read_text() for log in sorted((folder / "ray").iterdir())]
    print(out, *logs, sep="\n")
    assert len(logs) == 4
    for run in (tmp_path / "runs" / "terminal").iterdir():
        assert outcome(folder / run.name) == outcome(run)
        for path in run.glob("*/last.ckpt"):
            assert learnt(folder / path.relative_to(run.parent)) == learnt(path)
