"""Resolve the `trainer` options to this machine, and set torch up accordingly."""

import ctypes
import gc
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal
from torch import nn

from lymphoml.core.cores import available_cores, cgroup_memory, threads_per_job
from lymphoml.core.errors import InputError
from lymphoml.models.chunking import activation_bytes, has_batch_norm
from lymphoml.training.settings import TrainerConfig

# A training step's peak memory over that of its activations: gradients, workspace of convolutions.
PEAK_FACTOR = 2
MEMORY_SHARE = 0.5  # of the free memory that one step may take
MIN_CHUNK, MAX_CHUNK = 8, 32  # images; larger chunks are hardly faster
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@dataclass(frozen=True)
class Resolved:
    """What `auto` and null in the group `trainer` mean on this machine."""

    precision: str  # Lightning's name
    num_threads: int  # of one operation on the CPU
    encoder_chunk_size: int | None  # images; None: all at once
    cuda: bool
    device_name: str  # of the GPU or processor, not the machine's

    @property
    def bf16_on_cpu(self) -> bool:
        return self.precision == "bf16-mixed" and not self.cuda

    def __str__(self) -> str:
        threads = f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}"
        return f"precision {self.precision}, {threads}, channels last"


def resolve_hardware(
    trainer: TrainerConfig, jobs: int = 1, stored: Mapping[str, Any] | None = None
) -> Resolved:
    """Return what the group `trainer` means for one of `jobs` parallel jobs; change nothing.

    Of an existing run the `stored` threads (where there are enough cores) and chunk size win over
    what this machine would choose. A chunk size of `auto` is None until `auto_chunk_size` is asked.
    Raises InputError where the hardware lacks the precision.
    """
    stored, threads, chunk = stored or {}, trainer.num_threads, trainer.encoder_chunk_size
    if threads is None and stored and stored["num_threads"] <= available_cores():
        threads = stored["num_threads"]
    return Resolved(
        resolve_precision(trainer.precision, trainer.accelerator), threads or threads_per_job(jobs),
        stored.get("encoder_chunk_size") if chunk == "auto" else chunk,
        uses_cuda(trainer.accelerator), device_name(trainer.accelerator),
    )  # fmt: skip


def configure_torch(resolved: Resolved) -> None:
    """Set threads, matrix multiplication and memory allocation of this process."""
    torch.set_num_threads(resolved.num_threads)
    if resolved.cuda:
        exact = resolved.precision == "32-true"  # else TF32 for what stays in single precision
        torch.set_float32_matmul_precision("highest" if exact else "high")
        torch.backends.cudnn.allow_tf32 = not exact
    else:
        tune_malloc()


def uses_cuda(accelerator: str) -> bool:
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return Lightning's name; `auto` is bfloat16 where the hardware multiplies it.

    Raises InputError for `16-mixed` without a CUDA GPU: Lightning would take another in its place.
    """
    cuda = uses_cuda(accelerator)
    if precision == "16-mixed" and not cuda:
        raise InputError("trainer.precision=16-mixed needs a CUDA GPU. Set auto or bf16-mixed.")
    if precision != "auto":
        return precision
    if cuda:
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    flags = _read_field("/proc/cpuinfo", "flags").split()
    return "bf16-mixed" if {"amx_bf16", "avx512_bf16"} & set(flags) else "32-true"


def device_name(accelerator: str) -> str:
    """Return the GPU's or processor's model, without the machine's name."""
    if uses_cuda(accelerator):
        return torch.cuda.get_device_name()
    return _read_field("/proc/cpuinfo", "model name") or platform.machine()


def tune_malloc() -> None:
    """Have glibc, where there is one, keep freed memory for the next step.

    By default it returns large blocks to the system, which clears every page again in each step:
    7 % of ResNet18's time at 224 pixels. 32 MiB is the largest threshold that glibc takes. Keeping
    larger blocks too (M_MMAP_MAX 0) gives 15 %, but bags of varying sizes then fragment the heap:
    17 GB after seven epochs on the real cohort.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 2**30)


def free_bytes(cuda: bool, jobs: int = 1) -> int | None:
    """Return the free memory of the GPU, or of machine and control group, for each of `jobs`.

    Of a GPU, where the other jobs may have taken theirs, at most this job's share of the whole.
    """
    if cuda:
        gc.collect()  # images and weights of the job before, which Lightning left in cycles
        torch.cuda.empty_cache()
        free, total = torch.cuda.mem_get_info()
        return min(free, total // jobs - torch.cuda.memory_reserved())
    kib = _read_field("/proc/meminfo", "MemAvailable").removesuffix("kB")
    limits = [int(kib) * 1024 if kib else None, cgroup_memory()]
    return min((free // jobs for free in limits if free is not None), default=None)


def _read_field(file: str, name: str) -> str:
    path = Path(file)
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def keeps_images(device_cache: bool | str, need: int, resolved: Resolved, jobs: int = 1) -> bool:
    """Return whether images of `need` bytes stay in the device's memory: `data.device_cache`.

    Raises InputError where they have to and do not fit.
    """
    if device_cache is False or (device_cache == "auto" and not resolved.cuda):
        return False
    free = free_bytes(resolved.cuda, jobs)
    if free is None or need <= (free if device_cache is True else MEMORY_SHARE * free):
        print(f"{decimal(need)} of images stay in the memory of {resolved.device_name}")
        return True
    what = f"the images need {decimal(need)}, and {decimal(free)} of the device's memory are free"
    if device_cache is True:
        raise InputError(
            f"data.device_cache=true: {what}. Set data.device_cache=auto or a smaller data.resize, "
            f"or run fewer jobs at once (hydra.launcher.n_jobs)."
        )
    print(f"data.device_cache=auto: {what}, half of it for images: they are loaded at each step")
    return False


def auto_chunk_size(
    encoder: nn.Module, images: int, size: tuple[int, int], resolved: Resolved, jobs: int = 1
) -> int | None:
    """Return how many of the largest step's images the free memory holds; None: all.

    Chunks would change what BatchNorm learns, so with it free memory only decides on a hint.
    """
    free = free_bytes(resolved.cuda, jobs)
    each = activation_bytes(encoder.train(), size, resolved.precision != "32-true") * PEAK_FACTOR
    if free is None or images * each <= MEMORY_SHARE * free:
        return None
    chunk = min(max(int(MEMORY_SHARE * free // each), MIN_CHUNK), MAX_CHUNK)
    if not has_batch_norm(encoder):
        return chunk
    print(
        f"a step of {images} images may need {decimal(images * each)} of {decimal(free)} free "
        f"memory; if it does not suffice, set trainer.encoder_chunk_size={chunk} (each chunk a "
        f"batch of its own for BatchNorm) or model.encoder.norm=group (chunks change nothing)"
        f"{', or fewer hydra.launcher.n_jobs' * (jobs > 1)}"
    )
    return None
