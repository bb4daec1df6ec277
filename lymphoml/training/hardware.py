"""The arithmetic this machine is best at, and how many threads do it."""

import ctypes
import platform
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal
from torch import Tensor, nn

from lymphoml.core.cores import memory_left, share
from lymphoml.core.errors import InputError, one_line
from lymphoml.models.chunking import activation_bytes, has_batch_norm

# How much memory is free, and how the process keeps what it has.

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def tune_malloc() -> bool:
    """Have glibc keep what is freed for the next step; False where there is no glibc.

    By default it returns large blocks to the system, which clears every page anew in each step: 7 %
    of ResNet18's at 224 pixels. 32 MiB is the largest threshold that glibc takes. Keeping larger
    blocks too (M_MMAP_MAX 0) gives 15 %, but bags of ever other sizes then tear the heap to
    pieces: 17 GB after seven epochs on the real cohort.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_THRESHOLD, 32 * 2**20), (M_TRIM_THRESHOLD, 2**30))
    return all(mallopt(key, value) == 1 for key, value in settings)


def free_bytes(cuda: bool, jobs: int) -> int | None:
    """What each of so many jobs side by side may still take, of the GPU or of the machine.

    None where the system does not say.
    """
    if cuda:
        return torch.cuda.mem_get_info()[0] // jobs
    limits = [free for free in (_available(), memory_left()) if free is not None]
    return min(limits) // jobs if limits else None


def _available() -> int | None:
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    fields = dict(line.split(":", 1) for line in path.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


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
    accelerator, threads = options["accelerator"], set_threads(options["num_threads"], jobs)
    words = [
        f"precision {precision(options['precision'], accelerator)}",
        f"{threads} thread{'s' if threads > 1 else ''}",
        "channels last",
    ]
    if uses_cuda(accelerator):
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in single precision
    elif tune_malloc():
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


# Whether an encoder can look at images of a size, and how many a training step can hold.

# A step's peak over what its activations take: gradients, and workspace of the convolutions.
PEAK = 2
SHARE = 0.5  # of the free memory that one step may take
FEWEST, MOST = 8, 32  # images of a chunk: more are hardly faster


def check_input_size(encoder: nn.Module, name: str, size: tuple[int, int]) -> None:
    """Raises InputError where the encoder can't look at images of this (height, width)."""
    try:
        with torch.inference_mode():
            encoder.eval()(torch.zeros(1, 3, *size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"model.encoder: {name} refuses images of {size[1]} x {size[0]} pixels "
            f"({one_line(error)[:120]}); set data.crop or data.resize, or tell a vision "
            f"transformer its size by +model.encoder.img_size={size[0]}"
        ) from None


def refuse_unset_gradients(encoder: nn.Module, size: tuple[int, int]) -> None:
    """Raises InputError where bf16 on a CPU would train on whatever lies in memory.

    oneDNN's bf16 kernel (torch 2.15) sets no gradient for the weights of a convolution that step
    over a map of one pixel and so only ever meet padding.
    """
    found: list[nn.Conv2d] = []

    def look(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        sides = inputs[0].shape[-2:]
        if any(stride > side for stride, side in zip(layer.stride, sides, strict=True)):
            found.append(layer)

    convolutions = [each for each in encoder.modules() if isinstance(each, nn.Conv2d)]
    hooks = [each.register_forward_pre_hook(look) for each in convolutions]
    with torch.inference_mode():
        encoder.eval()(torch.zeros(1, 3, *size))
    for hook in hooks:
        hook.remove()
    if any(max(layer.kernel_size) > 1 for layer in found):
        raise InputError(
            f"images of {size[1]} x {size[0]} pixels are one pixel before the encoder's last "
            f"convolutions, for which bf16 leaves gradients unset on this processor; set "
            f"trainer.precision=32-true, or larger images by data.crop or data.resize"
        )


def auto_chunk_size(
    encoder: nn.Module, images: int, size: tuple[int, int], *, autocast: bool, free: int | None
) -> int | None:
    """How many images a step of `images` should take at a time; None: all.

    `free` is the memory in bytes, None where nobody knows. Chunks would change what BatchNorm
    learns, and free memory must not decide on that: with it all are taken, and a line says so.
    """
    if free is None:
        return None
    each = activation_bytes(encoder.train(), size, autocast) * PEAK
    if images * each <= SHARE * free:
        return None
    chunk = min(max(int(SHARE * free // each), FEWEST), MOST)
    if not has_batch_norm(encoder):
        return chunk
    print(
        f"a step of {images} images may need {decimal(images * each)} of the {decimal(free)} that "
        f"are free; if memory does not suffice: trainer.encoder_chunk_size={chunk}, each chunk a batch of "
        f"its own for BatchNorm, or model.encoder.norm=group, which nothing changes"
    )
    return None
