"""What a process ignores in its environment, what it refuses, and where its output may go."""

import os
import subprocess
import sys

import pytest

from lymphoml.cli.environment import set_up_process
from lymphoml.core.errors import InputError
from tests.promises.jobs import ROOT, one_line

HELP = [sys.executable, "-m", "lymphoml", "--help"]


def shown(words, **more):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | more
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("name", [
    "PL_TRAINER_LIMIT_VAL_BATCHES", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MPLBACKEND", "HYDRA_X",
    "ATEN_CPU_CAPABILITY", "NVIDIA_TF32_OVERRIDE", "OMP_DYNAMIC", "WANDB_RUN_GROUP",
])  # fmt: skip
def test_what_changes_numbers_is_removed_with_a_line(name, monkeypatch, capsys):
    monkeypatch.setenv(name, "1")
    set_up_process.__wrapped__()
    assert name not in os.environ
    assert name in capsys.readouterr().err
    set_up_process.__wrapped__()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "TORCH_HOME", "HF_HUB_OFFLINE", "https_proxy",
    "PYTORCH_CUDA_ALLOC_CONF", "MKL_THREADING_LAYER", "WANDB_API_KEY", "SLURM_JOB_ID", "TMPDIR",
])  # fmt: skip
def test_places_connections_and_cores_stay(name, monkeypatch, capsys):
    monkeypatch.setenv(name, "1")
    set_up_process.__wrapped__()
    assert os.environ[name] == "1"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("environment", "words"), [
    ({"WORLD_SIZE": "2", "RANK": "1"}, "unset WORLD_SIZE"),
    ({"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}, "Set PYTHONUTF8=1"),
])  # fmt: skip
def test_several_processes_and_other_encodings_are_refused(environment, words):
    done = shown(HELP, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in one_line(done.stderr)


def test_an_account_without_a_home_is_refused(monkeypatch):
    def unknown(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    set_up_process.__wrapped__()  # that of the account
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(InputError, match="HOME is not set"):
        set_up_process.__wrapped__()


def test_ascii_output_and_warnings_as_errors_end_nothing():
    code = """
import warnings
from lymphoml.cli.entry import run_cli
run_cli(lambda: (warnings.warn("a library's"), print("−0.5")))
"""
    words = [sys.executable, "-c", code]
    done = shown(words, PYTHONIOENCODING="ascii", PYTHONWARNINGS="error")
    assert (done.returncode, done.stdout) == (0, "\\u22120.5\n")
    assert "UserWarning: a library's" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("shell", "err"), [
    ('"$@" | true; exit ${PIPESTATUS[0]}', ""), ('"$@" >&-', ""), ('"$@" >&- 2>&-', ""),
    ('"$@" >/dev/full', "output is lost from here on: No space left on device\n"),
])  # fmt: skip
def test_output_that_nothing_takes_ends_nothing(shell, err, unbuffered):
    done = shown(["bash", "-c", shell, "bash", *HELP], PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, err)
