import pytest
import torch
from torch import nn

from lymphoml import capacity, cores, memory
from lymphoml.capacity import fitting_chunk
from lymphoml.compute import set_threads
from lymphoml.nn.encoders import timm_encoder


def chunk(images, free, norm="batch"):
    return fitting_chunk(
        timm_encoder("test_resnet", norm=norm), images, (32, 32), autocast=False, free=free
    )


def test_a_step_that_fits_is_taken_at_once_and_nothing_is_said(capsys):
    assert chunk(100, free=10**12) is None
    assert chunk(10**9, free=None) is None
    assert capsys.readouterr().out == ""


def test_a_step_that_does_not_fit_is_chunked_to_its_share_and_said_once(capsys):
    each = capacity.PEAK * capacity.activation_bytes(timm_encoder("test_resnet"), (32, 32), False)
    assert chunk(5000, free=40 * each) == 20
    (line,) = capsys.readouterr().out.splitlines()
    assert "a step of 5000 images" in line
    assert "20 images at a time" in line
    assert "batch of its own for BatchNorm" in line
    assert chunk(5000, free=40 * each, norm="group") in (19, 20)
    assert "BatchNorm" not in capsys.readouterr().out
    assert chunk(5000, free=1) == capacity.FEWEST
    assert chunk(5000, free=4000 * each) == capacity.MOST


def test_free_memory_is_what_the_system_says_within_the_groups_allowance(monkeypatch):
    total = memory.free_bytes(cuda=False)
    assert 2**20 < total < 2**50
    monkeypatch.setattr(memory, "_left_in_group", lambda: 12000)
    monkeypatch.setattr(memory, "available_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert memory.free_bytes(cuda=False) == 3000
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cores, "available_cores", lambda: 4)
    assert memory.free_bytes(cuda=False) == 12000


def test_freed_memory_is_kept_where_there_is_glibc(monkeypatch):
    assert memory.keep_freed()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: nn.Module())
    assert not memory.keep_freed()


@pytest.mark.parametrize(("share", "asked", "expected"), [("3", None, 3), ("3", 2, 2), ("x", 1, 1)])
def test_threads_are_the_jobs_share(monkeypatch, share, asked, expected):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", share)
    try:
        assert set_threads(asked) == torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_as_many_jobs_side_by_side_as_cores_and_one_with_a_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(cores, "available_cores", lambda: 4)
    assert [cores.side_by_side(jobs) for jobs in (1, 3, 8)] == [1, 3, 4]
    monkeypatch.setattr(cores, "GPU", tmp_path)
    assert cores.side_by_side(8) == 1
