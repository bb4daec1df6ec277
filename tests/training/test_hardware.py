"""What `auto` means on a machine: memory and cores, shared by jobs, within a container's limits."""

import weakref

import pytest
import torch

from lymphoml.cli.config import compose_config
from lymphoml.core import cores
from lymphoml.models.encoders import timm_encoder
from lymphoml.training import hardware
from lymphoml.training.hardware import Resolved, auto_chunk_size, configure_torch, resolve_hardware
from lymphoml.training.settings import TrainerConfig

AUTO = TrainerConfig(
    max_epochs=1, accelerator="cpu", precision="auto", num_threads=None, encoder_chunk_size="auto",
    check_val_every_n_epoch=1, patience=None, enable_progress_bar=False,
)  # fmt: skip


def small_encoder(norm="group"):
    encoder = timm_encoder("test_resnet", norm=norm)
    return encoder.to(memory_format=torch.channels_last)


@pytest.mark.parametrize(("images", "free", "norm", "chunk"), [
    (100, 10**12, "group", None), (10**9, None, "group", None), (5000, 4000, "group", 20),
    (5000, 1, "group", hardware.MIN_CHUNK), (5000, 400_000, "group", hardware.MAX_CHUNK),
    (5000, 4000, "batch", None),  # what BatchNorm learns is not left to the free memory
])  # fmt: skip
def test_a_step_is_chunked_to_its_share_of_the_memory(
    images, free, norm, chunk, monkeypatch, capsys
):
    monkeypatch.setattr(hardware, "free_bytes", lambda cuda, jobs: free)
    monkeypatch.setattr(hardware, "activation_bytes", lambda *_: 100 / hardware.PEAK_FACTOR)
    encoder, resolved = small_encoder(norm), resolve_hardware(AUTO)
    assert auto_chunk_size(encoder, images, (32, 32), resolved) == chunk
    assert ("trainer.encoder_chunk_size=20" in capsys.readouterr().out) == (norm == "batch")


@pytest.mark.parametrize(("available", "threads"), [(4, 3), (2, 2)])
def test_an_existing_run_keeps_its_threads_where_cores_suffice(monkeypatch, available, threads):
    monkeypatch.setattr(hardware, "available_cores", lambda: available)
    monkeypatch.setattr(hardware, "threads_per_job", lambda jobs: available)
    stored = {"num_threads": 3}
    assert resolve_hardware(AUTO, 1, stored).num_threads == threads
    assert resolve_hardware(AUTO.replace({"num_threads": 1}), 1, stored).num_threads == 1


def test_free_memory_is_shared_by_jobs_and_limited_by_the_control_group(monkeypatch):
    assert 2**20 < hardware.free_bytes(cuda=False, jobs=1) < 2**50
    monkeypatch.setattr(hardware, "cgroup_memory", lambda: 12000)
    assert hardware.free_bytes(cuda=False, jobs=1) == 12000
    assert hardware.free_bytes(cuda=False, jobs=4) == 3000
    left = torch.nn.Linear(1, 1)  # by the job before, in a cycle
    left.itself, gone = [left], weakref.ref(left)
    del left
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (800 if gone() is None else 0, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 90)
    assert [hardware.free_bytes(cuda=True, jobs=jobs) for jobs in (1, 4)] == [800, 160]


def test_limits_of_the_groups_above_count_and_file_pages_are_free(tmp_path, monkeypatch):
    """A job's group below its scheduler's, which is the one with limits."""
    job = tmp_path / "scheduler" / "job"
    job.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/scheduler/job\n")
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "own")
    assert cores.cgroup_memory() is None
    for group, file, content in (
        (job, "max", "max\n"), (job, "current", "10\n"), (job.parent, "max", "1000\n"),
        (job.parent, "current", "900\n"), (job.parent, "stat", "anon 300\ninactive_file 500\n"),
    ):  # fmt: skip
        (group / f"memory.{file}").write_text(content)
    assert cores.cgroup_memory() == 600


@pytest.mark.parametrize(("allowed", "jobs", "threads"), [
    ("", 1, 8), ("", 3, 2), ("", 99, 1), ("3", 1, 3), ("64", 2, 4), ("x", 1, 8),
])  # fmt: skip
def test_threads_are_the_jobs_share(monkeypatch, allowed, jobs, threads):
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    assert resolve_hardware(AUTO, jobs).num_threads == threads
    assert resolve_hardware(AUTO.replace({"num_threads": 5}), jobs).num_threads == 5


def test_a_slurm_job_takes_no_more_cores_than_its_own(monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 4)
    for granted, found in (("2", 2), ("16", 4), ("", 4)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", granted)
        assert cores.available_cores() == found


def test_as_many_parallel_jobs_as_cores_and_one_with_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(cores, "available_cores", lambda: 4)
    monkeypatch.setattr(cores, "DEVICES", tmp_path)
    sweeps = ({"fold": "0,1,2"}, {"optim": "sgd,adam", "lr": "1e-3,1e-4"}, {"seed": 1}, {}, None,
              {"fold": "range(0,5)"})  # fmt: skip
    assert [cores.parallel_jobs(params) for params in sweeps] == [3, 4, 1, 4, 4, 4]
    (tmp_path / "nvidiactl").touch()
    assert cores.parallel_jobs(None) == 4
    (tmp_path / "nvidia3").touch()
    assert cores.parallel_jobs(None) == 1


def test_the_paper_is_computed_in_single_precision_on_all_hardware(monkeypatch):
    """Neither bfloat16, where the processor multiplies it, nor a GPU's TF32."""
    choices = {name: compose_config(f"experiment={name}").trainer for name in ("paper", "default")}
    for flags, default in (("avx512_bf16", "bf16-mixed"), ("sse2", "32-true")):
        monkeypatch.setattr(hardware, "_read_field", lambda *_, flags=flags: flags)
        assert (
            resolve_hardware(choices["paper"].replace({"accelerator": "cpu"})).precision
            == "32-true"
        )
        assert (
            resolve_hardware(choices["default"].replace({"accelerator": "cpu"})).precision
            == default
        )
    for precision, tf32 in (("32-true", False), ("bf16-mixed", True)):
        configure_torch(Resolved(precision, torch.get_num_threads(), None, True, "GPU"))
        assert torch.backends.cudnn.allow_tf32 == tf32
        assert (torch.get_float32_matmul_precision() == "high") == tf32
    torch.set_float32_matmul_precision("highest")
