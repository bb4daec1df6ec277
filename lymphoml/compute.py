"""The arithmetic this machine is best at, and how many threads do it."""

import os
import platform
from pathlib import Path

import torch


def uses_cuda(accelerator: str) -> bool:
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def precision(asked: str, accelerator: str) -> str:
    """Lightning's name for the precision; `auto` is bfloat16 where the hardware multiplies it."""
    if asked != "auto":
        return asked
    if uses_cuda(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if {"amx_bf16", "avx512_bf16"} & _cpu_flags() else "32-true"


def set_threads(threads: int | None) -> int:
    """Threads of one operation; by default the cores that this process may use."""
    count = threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(count)
    return count


def hardware(accelerator: str) -> str:
    """The processor or GPU in words, without the machine's name."""
    if uses_cuda(accelerator):
        return torch.cuda.get_device_name()
    for line in _cpu_info():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _cpu_flags() -> set[str]:
    for line in _cpu_info():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
