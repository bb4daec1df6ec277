"""What of a process's environment counts: places, connections, cores and looks, never a number.

No run folder records a variable, so those that change numbers are removed before the libraries
that read them are imported. `docs/environment.md` says what each kind does.
"""

import errno
import functools
import io
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from lymphoml.core.errors import InputError

IGNORED = re.compile(
    r"(PL|LT|ATEN|C10|TORCH|TORCHINDUCTOR|TORCHDYNAMO|TORCHELASTIC|PYTORCH|XLA|MKL|DNNL|ONEDNN|OMP"
    r"|GOMP|KMP|OPENBLAS|BLIS|NPY|NUMPY|SCIPY|SKLEARN|PANDAS|TIMM|PYDANTIC|CUBLAS|CUBLASLT|CUDNN"
    r"|MASTER|HYDRA|JOBLIB|LOKY|JSM_NAMESPACE|WANDB)_\w+|MPL\w+|MATPLOTLIBRC|NVIDIA_TF32_OVERRIDE|OC_CAUSE"
    r"|((LOCAL|NODE|GROUP|ROLE)_)?RANK|((LOCAL|ROLE)_)?WORLD_SIZE"
)
KEPT = re.compile(  # places, cores and how they wait, memory, linking, what libraries set
    r"\w+_NUM_THREADS|OMP_WAIT_POLICY|GOMP_SPINCOUNT|KMP_BLOCKTIME|LOKY_MAX_CPU_COUNT"
    r"|PYTORCH_(\w*ALLOC_CONF|ENABLE_MPS_FALLBACK|MPS_\w+_RATIO|NVML_BASED_CUDA_CHECK)"
    r"|MKL_\w+_LAYER|KMP_(DUPLICATE_LIB_OK|INIT_AT_FORK)|TORCH_HOME"
    r"|TORCHINDUCTOR_CACHE_DIR|MPLCONFIGDIR|JOBLIB_TEMP_FOLDER|PL_(GLOBAL_SEED|SEED_WORKERS)"
    r"|CUBLAS_WORKSPACE_CONFIG|HYDRA_FULL_ERROR|WANDB_(API_KEY|BASE_URL|MODE|PROJECT|ENTITY|RUN_ID"
    r"|SWEEP_ID|(CACHE|DATA|CONFIG)_DIR|(IDENTITY_TOKEN|CREDENTIALS)_FILE|INSECURE_DISABLE_SSL"
    r"|ERROR_REPORTING)"
)


@functools.cache  # later, they are what libraries set themselves
def set_up_process() -> None:
    """Remove the IGNORED variables, with a line; keep a lost reader of the output from ending us.

    Raises InputError for a launcher of several processes, and where names of files are not UTF-8.
    """
    for number in range(3):  # closed: the next file would get what libraries print
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is not None and stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _Output.of(stream))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print in its own way and exit with 1
    if any(option.startswith("e") for option in sys.warnoptions):  # a library's would end a run
        warnings.simplefilter("default")
        os.environ.pop("PYTHONWARNINGS", None)  # -W sets none
    # joblib's own process cleans up after a sweep that was stopped, and would print that it does.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    paths = [str(Path(__file__).parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, dict.fromkeys(paths)))  # of jobs
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes not in ("", "0", "1"):
        raise InputError(
            f"WORLD_SIZE={processes}: one process trains on one device. Start it without torchrun "
            f"or another launcher of processes, or unset WORLD_SIZE."
        )
    if sys.getfilesystemencoding() != "utf-8":
        raise InputError(
            f"names of files are read as {sys.getfilesystemencoding()}, by LC_ALL, LANG or "
            f"PYTHONUTF8. Set PYTHONUTF8=1."
        )
    if os.path.expanduser("~") == "~":
        raise InputError("HOME is not set, and this account has no other. Set it to a folder.")
    if ignored := remove_ignored():
        print(f"ignored in the environment: {', '.join(ignored)}", file=sys.stderr)


def remove_ignored() -> list[str]:
    """Remove the variables that would change numbers; return their names, sorted."""
    ignored = sorted(each for each in os.environ if IGNORED.fullmatch(each)
                     and not KEPT.fullmatch(each))  # fmt: skip
    for name in ignored:
        del os.environ[name]
    return ignored


class _Output(io.FileIO):
    """A standard stream whose reader may go away, or whose disk may fill up."""

    lost = False

    @classmethod
    def of(cls, stream: io.TextIOWrapper) -> io.TextIOWrapper:
        """Return the stream as one of these; characters that its encoding lacks are escaped."""
        stream.flush()
        raw = cls(stream.fileno(), "w", closefd=False)
        return io.TextIOWrapper(
            raw if stream.write_through else io.BufferedWriter(raw), stream.encoding,
            "backslashreplace", line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )  # fmt: skip

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if self.fileno() == 1 and not self.lost and error.errno != errno.EPIPE:
                print(f"output is lost from here on: {error.strerror}", file=sys.stderr)
            self.lost = True
            return len(content)
