"""The arithmetic this machine is best at, and how many threads do it."""

import platform
from pathlib import Path
from typing import Any

import torch

from lymphoml.errors import InputError
from lymphoml.machine import memory
from lymphoml.machine.cores import share


def uses_cuda(accelerator: str) -> bool:
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def precision(asked: str, accelerator: str) -> str:
    """Lightning's name for the precision; `auto` is bfloat16 where the hardware multiplies it.

    Raises InputError for `16-mixed` without a CUDA GPU: Lightning would take another in its place.
    """
    if asked == "16-mixed" and not uses_cuda(accelerator):
        raise InputError("trainer.precision=16-mixed: needs a CUDA GPU; set auto, or bf16-mixed")
    if asked != "auto":
        return asked
    if uses_cuda(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if {"amx_bf16", "avx512_bf16"} & _cpu_flags() else "32-true"


def settle(options: dict[str, Any], jobs: int = 1) -> str:
    """Set this process up as the configuration's `trainer` says, one of so many side by side.

    Returns the settings in words.
    """
    accelerator, threads = options["accelerator"], set_threads(options["threads"], jobs)
    words = [
        f"precision {precision(options['precision'], accelerator)}",
        f"{threads} thread{'s' if threads > 1 else ''}",
        "channels last",
    ]
    if uses_cuda(accelerator):
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in single precision
    elif memory.keep_freed():
        words.append("freed memory kept")
    return ", ".join(words)


def set_threads(threads: int | None, jobs: int = 1) -> int:
    """Threads of one operation; by default the job's share of the cores."""
    count = threads or share(jobs)
    torch.set_num_threads(count)
    return count


def threads() -> int:
    """Those of one operation, as they are set."""
    return torch.get_num_threads()


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
