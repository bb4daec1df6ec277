"""The environment: variables of a shell, a notebook, a cluster or a container"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fake_wandb import KEY, read_runs
from tests.promises.jobs import CLINICAL, ENCODER, ROOT, TINY, one_line, outcome, python

HOSTILE = """
PL_TRAINER_LIMIT_VAL_BATCHES=1 PL_TRAINER_MAX_STEPS=1 PL_TRAINER_GRADIENT_CLIP_VAL=0.001
PL_GLOBAL_SEED=7 PL_SEED_WORKERS=1 LT_DEVICES=2 RANK=1 LOCAL_RANK=1 NODE_RANK=1 WORLD_SIZE=1
MASTER_PORT=x TORCHELASTIC_RUN_ID=7 SLURM_NTASKS=4 SLURM_PROCID=1 SLURM_LOCALID=1 SLURM_NODEID=1
SLURM_JOB_ID=7 SLURM_JOB_NAME=train JSM_NAMESPACE_RANK=1 OC_CAUSE=1 HYDRA_MAIN_MODULE=x
MPLBACKEND=module://nowhere MATPLOTLIBRC=/nowhere GIT_DIR=/nowhere DISPLAY=:7
ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 ONEDNN_DEFAULT_FPMATH_MODE=BF16 OMP_DYNAMIC=1
OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0 KMP_BLOCKTIME=0
MKL_CBWR=COMPATIBLE MKL_VERBOSE=1 MKL_NUM_THREADS=3 OMP_THREAD_LIMIT=1 OMP_SCHEDULE=guided
OPENBLAS_CORETYPE=Prescott OPENBLAS_NUM_THREADS=1 NPY_DISABLE_CPU_FEATURES=AVX2 SCIPY_ARRAY_API=1
SKLEARN_ASSUME_FINITE=1 PANDAS_FUTURE=1 TIMM_FUSED_ATTN=0 TORCH_LOGS=+all PYTORCH_JIT=0
TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 NVIDIA_TF32_OVERRIDE=1 CUBLAS_WORKSPACE_CONFIG=:0:0
JOBLIB_MULTIPROCESSING=0 LOKY_PICKLER=x PYTHONHASHSEED=7 PYTHONIOENCODING=ascii PYTHONOPTIMIZE=1
PYTHONWARNINGS=error LC_ALL=C TZ=Asia/Tokyo COLUMNS=20 FORCE_COLOR=1 TERM=dumb
WANDB_RUN_GROUP=x WANDB_NAME=x WANDB_HOST=x WANDB_CONSOLE=wrap WANDB_SILENT=maybe
"""
COMMANDS = [
    [ROOT / "train.py", *TINY, *ENCODER, "hydra.run.dir=run", "data.num_workers=1",
     "trainer.max_epochs=1", "trainer.num_threads=2"],
    [ROOT / "predict.py", "run=run"],
    ["-m", "lymphoml", "report", "run=run"],
]  # fmt: skip


def life(cohort: Path, folder: Path, **more: str) -> dict[str, bytes | str]:
    """Return the files of a run that was trained, predicted with and reported."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {name: text for name, text in os.environ.items() if name != "HOME"}
    environment |= {"PYTHONPATH": str(ROOT)} | more
    for number, command in enumerate(COMMANDS):
        words = command if number == 2 else [*command, f"data.root={cohort}"]
        done = python(*words, cwd=folder, limit=300, env=environment)
        assert done.returncode == 0, done.stderr
        assert not re.search("Traceback|error", done.stderr), done.stderr
    page = (folder / "run" / "report.html").read_text()
    return outcome(folder / "run") | {"page": re.sub(r"\d+(\.\d+)? s\b", "", page)}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_is_left_in_the_environment_changes_no_number(cohort, tmp_path):
    """sixty variables of Lightning, torchrun, SLURM, torch, OpenMP, MKL, NumPy, matplotlib, Hydra,
    W&B, git and Python that others left in the environment, and no HOME → training, predicting and
    the report give the bytes that they give without; what would change numbers is named in a
    line"""
    hostile = dict(each.split("=", 1) for each in HOSTILE.split())
    assert len(hostile) >= 60
    expected = life(cohort, tmp_path / "work")
    found = life(cohort, tmp_path / "work", **hostile)
    assert sorted(found) == sorted(expected)
    assert [name for name in found if found[name] != expected[name]] == []


@pytest.mark.slow
def test_wandb_without_a_network_costs_no_training(cohort, tmp_path):
    """a key of W&B is configured, and its server cannot be reached → one line, and the run is
    trained and tracked offline, as where the network is lost later"""
    environment = {name: each for name, each in os.environ.items() if "WANDB" not in name}
    environment |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environment |= {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}
    words = [*TINY, *CLINICAL, f"data.root={cohort}", "logger=wandb", "logger.tensorboard=false",
             "hydra.run.dir=run", "fold=0"]  # fmt: skip
    done = python(ROOT / "train.py", *words, cwd=tmp_path, limit=200, env=environment)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("W&B: http://127.0.0.1:9 does not answer")
    (run,) = read_runs(tmp_path / "run")
    assert (run.job_type, run.exit_code, run.config["fusion"]) == ("fold", 0, "clinical")
    assert (tmp_path / "run" / "fold-0" / "done.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kib", [8, 48])
def test_a_small_dev_shm_is_named(cohort, tmp_path, kib):
    """/dev/shm is too small for the batches of loader workers, as in a container → at once one line
    that names it, exit code 1, not after data.timeout that a worker hangs"""
    alone = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c",
             f'mount -t tmpfs -o size={kib}k none /dev/shm && exec "$@"', "sh"]  # fmt: skip
    if not shutil.which("unshare") or subprocess.run([*alone, "true"]).returncode:
        pytest.skip("no file system of one's own can be mounted")
    words = [*TINY, *ENCODER, f"data.root={cohort}", "hydra.run.dir=run", "data.num_workers=1",
             "data.batch_size=8", "fold=0"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*alone, sys.executable, str(ROOT / "train.py"), *words], cwd=tmp_path, env=environment,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 1
    assert "/dev/shm" in one_line(done.stderr)
    assert "data.num_workers=0" in done.stderr
