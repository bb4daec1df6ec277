"""Resolve the `trainer` options to this machine, and set torch up accordingly."""

import ctypes
import platform
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.filesize import decimal
from torch import Tensor, nn

from lymphoml.core.cores import available_cores, cgroup_memory, threads_per_job
from lymphoml.core.errors import InputError, one_line
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
    feature_dim: int | None = None  # of an encoder over stored features; set by who opens the store

    def __str__(self) -> str:
        threads = f"{self.num_threads} thread{'s' if self.num_threads > 1 else ''}"
        return f"precision {self.precision}, {threads}, channels last"


def resolve_hardware(
    trainer: TrainerConfig,
    jobs: int = 1,
    *,
    encoder: nn.Module | None = None,
    step_images: int = 0,
    image_size: tuple[int, int] | None = None,
    stored: Resolved | None = None,
) -> Resolved:
    """Return what the group `trainer` means for one of `jobs` parallel jobs; change nothing.

    Of an existing run the `stored` threads (where there are enough cores) and chunk size win over
    what this machine would choose. `encoder_chunk_size=auto` needs the encoder, the images of the
    largest step and their (height, width); without them it is None.

    Raises InputError where the hardware lacks the precision.
    """
    cuda = uses_cuda(trainer.accelerator)
    threads = trainer.num_threads
    if threads is None and stored is not None and stored.num_threads <= available_cores():
        threads = stored.num_threads
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    chunk = trainer.encoder_chunk_size
    if chunk == "auto":
        chunk = None
        if stored is not None:
            chunk = stored.encoder_chunk_size
        elif encoder is not None and image_size is not None:
            free = free_bytes(cuda, jobs)
            chunk = _encoder_chunk(encoder, step_images, image_size, precision, free)
    device = device_name(trainer.accelerator)
    return Resolved(precision, threads or threads_per_job(jobs), chunk, cuda, device)


def configure_torch(resolved: Resolved) -> None:
    """Set threads, matrix multiplication and memory allocation of this process."""
    torch.set_num_threads(resolved.num_threads)
    if resolved.cuda:
        torch.set_float32_matmul_precision("high")  # TF32 for what stays in single precision
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


def tune_malloc() -> bool:
    """Have glibc keep freed memory for the next step; return False where there is no glibc.

    By default it returns large blocks to the system, which clears every page again in each step:
    7 % of ResNet18's time at 224 pixels. 32 MiB is the largest threshold that glibc takes. Keeping
    larger blocks too (M_MMAP_MAX 0) gives 15 %, but bags of varying sizes then fragment the heap:
    17 GB after seven epochs on the real cohort.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    settings = ((M_MMAP_THRESHOLD, 32 * 2**20), (M_TRIM_THRESHOLD, 2**30))
    return all(mallopt(key, value) == 1 for key, value in settings)


def free_bytes(cuda: bool, jobs: int = 1) -> int | None:
    """Return the free memory of the GPU, or of machine and control group, for each of `jobs`."""
    if cuda:
        return torch.cuda.mem_get_info()[0] // jobs
    limits = [free for free in (_available(), cgroup_memory()) if free is not None]
    return min(limits) // jobs if limits else None


def _available() -> int | None:
    kib = _read_field("/proc/meminfo", "MemAvailable").removesuffix("kB")
    return int(kib) * 1024 if kib else None


def _read_field(file: str, name: str) -> str:
    path = Path(file)
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return ""


def auto_chunk_size(step_images: int, image_bytes: int, free: int | None) -> int | None:
    """Return how many of a step's images fit at a time into `free` bytes; None: all."""
    if free is None or step_images * image_bytes <= MEMORY_SHARE * free:
        return None
    return min(max(int(MEMORY_SHARE * free // image_bytes), MIN_CHUNK), MAX_CHUNK)


def _encoder_chunk(
    encoder: nn.Module, images: int, size: tuple[int, int], precision: str, free: int | None
) -> int | None:
    """Chunks would change what BatchNorm learns, so with it free memory only decides on a hint."""
    each = activation_bytes(encoder.train(), size, precision != "32-true") * PEAK_FACTOR
    chunk = auto_chunk_size(images, each, free)
    if chunk is None or not has_batch_norm(encoder):
        return chunk
    print(
        f"a step of {images} images may need {decimal(images * each)} of {decimal(free or 0)} free "
        f"memory; if it does not suffice, set trainer.encoder_chunk_size={chunk} (each chunk a "
        f"batch of its own for BatchNorm) or model.encoder.norm=group (chunks change nothing)"
    )
    return None


def check_input_size(
    encoder: nn.Module, name: str, size: tuple[int, int], *, bf16_on_cpu: bool = False
) -> None:
    """Raise InputError where the encoder cannot be trained on images of this (height, width).

    oneDNN's bf16 kernel (torch 2.15) leaves gradients unset for the weights of a convolution that
    strides over a map of one pixel and so only ever meets padding.
    """
    too_small: list[nn.Conv2d] = []

    def inspect(layer: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        sides = inputs[0].shape[-2:]
        if any(stride > side for stride, side in zip(layer.stride, sides, strict=True)):
            too_small.append(layer)

    convolutions = [each for each in encoder.modules() if isinstance(each, nn.Conv2d)]
    hooks = [each.register_forward_pre_hook(inspect) for each in convolutions]
    try:
        with torch.inference_mode():
            encoder.eval()(torch.zeros(1, 3, *size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"model.encoder={name} does not accept {size[0]} x {size[1]} inputs "
            f"({one_line(error)[:120]}). Set data.crop or data.resize, or for a vision transformer "
            f"+model.encoder.img_size={size[0]}."
        ) from None
    finally:
        for hook in hooks:
            hook.remove()
    if bf16_on_cpu and any(max(layer.kernel_size) > 1 for layer in too_small):
        raise InputError(
            f"model.encoder={name}: images of {size[0]} x {size[1]} pixels shrink to one pixel "
            f"before its last convolutions, for which bf16 leaves gradients unset on this "
            f"processor. Set trainer.precision=32-true, or make data.crop or data.resize larger."
        )
