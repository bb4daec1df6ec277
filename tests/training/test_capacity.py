"""What the machine offers: memory and cores, shared by jobs, within a container's allowance."""

import pytest
import torch
from torch import nn

from lymphoml.core import cores
from lymphoml.core.errors import InputError
from lymphoml.models.encoders import timm_encoder
from lymphoml.training import hardware
from lymphoml.training.hardware import (
    activation_bytes,
    auto_chunk_size,
    refuse_unset_gradients,
    set_threads,
)


def chunk(images, free, norm="group"):
    return auto_chunk_size(
        timm_encoder("test_resnet", norm=norm), images, (32, 32), autocast=False, free=free
    )


def small_encoder():
    encoder = timm_encoder("test_resnet", norm="group")
    return encoder.to(memory_format=torch.channels_last)


def test_a_map_of_one_pixel_before_a_stride_is_refused():
    """torch 2.15's bf16 leaves gradients unset there: some are what lay in memory."""
    with pytest.raises(InputError, match=r"trainer\.precision=32-true"):
        refuse_unset_gradients(small_encoder(), (16, 16))


@pytest.mark.parametrize("side", [32, 48])
def test_what_is_not_refused_has_all_its_gradients(side):
    encoder = small_encoder()
    refuse_unset_gradients(encoder, (side, side))
    for _ in range(30):
        torch.full((1 << 20,), float("nan"))  # what lies in freed memory
        encoder.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            features = encoder(torch.rand(3, 3, side, side))
        features.float().square().sum().backward()
        assert all(weight.grad.isfinite().all() for weight in encoder.parameters())


def test_a_step_that_fits_is_taken_at_once():
    assert chunk(100, free=10**12) is None
    assert chunk(10**9, free=None) is None


def test_a_step_that_does_not_fit_is_chunked_to_its_share():
    encoder = timm_encoder("test_resnet", norm="group")
    each = hardware.PEAK * activation_bytes(encoder, (32, 32), autocast=False)
    assert chunk(5000, free=40 * each) == 20
    assert chunk(5000, free=1) == hardware.FEWEST
    assert chunk(5000, free=4000 * each) == hardware.MOST


def test_free_memory_never_decides_what_batch_norm_learns_but_is_told(capsys):
    assert chunk(5000, free=10**12, norm="batch") is None
    assert capsys.readouterr().out == ""
    assert chunk(5000, free=1, norm="batch") is None
    (line,) = capsys.readouterr().out.splitlines()
    assert "a step of 5000 images" in line
    assert f"trainer.encoder_chunk_size={hardware.FEWEST}" in line


def test_free_memory_is_shared_by_jobs_and_kept_within_the_groups_allowance(monkeypatch):
    assert 2**20 < hardware.free_bytes(cuda=False, jobs=1) < 2**50
    monkeypatch.setattr(hardware, "memory_left", lambda: 12000)
    assert hardware.free_bytes(cuda=False, jobs=1) == 12000
    assert hardware.free_bytes(cuda=False, jobs=4) == 3000


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A job's group below its scheduler's, which is the one with limits."""
    job = tmp_path / "scheduler" / "job"
    job.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/scheduler/job\n")
    monkeypatch.setattr(cores, "ROOT", tmp_path)
    monkeypatch.setattr(cores, "OWN", tmp_path / "own")
    return job


def test_limits_of_the_groups_above_count_and_file_pages_are_no_loss(groups):
    assert cores.cpus() is None
    assert cores.memory_left() is None
    (groups / "cpu.max").write_text("max 100000\n")
    (groups / "hardware.max").write_text("max\n")
    (groups / "hardware.current").write_text("10\n")
    (groups.parent / "cpu.max").write_text("150000 100000\n")
    (groups.parent / "hardware.max").write_text("1000\n")
    (groups.parent / "hardware.current").write_text("900\n")
    (groups.parent / "hardware.stat").write_text("anon 300\ninactive_file 500\n")
    assert cores.cpus() == 1.5
    assert cores.memory_left() == 600
    assert cores.available_cores() == 1


def test_freed_memory_is_kept_where_there_is_glibc(monkeypatch):
    assert hardware.tune_malloc()
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: nn.Module())
    assert not hardware.tune_malloc()


@pytest.mark.parametrize(("allowed", "asked", "jobs", "expected"), [
    ("", None, 1, 8), ("", None, 3, 2), ("", None, 99, 1), ("3", None, 1, 3), ("64", None, 2, 4),
    ("3", 5, 2, 5), ("x", None, 1, 8),
])  # fmt: skip
def test_threads_are_the_jobs_share(monkeypatch, allowed, asked, jobs, expected):
    before = torch.get_num_threads()
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", allowed)
    try:
        assert set_threads(asked, jobs) == torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_as_many_jobs_side_by_side_as_cores_and_one_with_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(cores, "available_cores", lambda: 4)
    monkeypatch.setattr(cores, "DEVICES", tmp_path)
    sweeps = {"fold": "0,1,2"}, {"optim": "sgd,adam", "lr": "1e-3,1e-4"}, {"seed": 1}, {}, None
    assert [cores.side_by_side(params) for params in sweeps] == [3, 4, 1, 4, 4]
    (tmp_path / "nvidiactl").touch()
    assert cores.side_by_side(None) == 4
    (tmp_path / "nvidia3").touch()
    assert cores.side_by_side(None) == 1
