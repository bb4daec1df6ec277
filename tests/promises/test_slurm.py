"""SLURM: time limits, requeued jobs, failed nodes, several tasks."""

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hydra.core.utils import JobReturn, JobStatus

from lymphoml.cli.entry import run_cli
from lymphoml.cli.train import train
from lymphoml.core.errors import RuntimeFailure, as_user_error
from lymphoml.runs.fold_lock import fold_lock
from lymphoml.training.checkpoint import load_checkpoint
from tests.promises.jobs import ENCODER, ROOT, alive, one_line, outcome, python, start, wait_until
from tests.promises.test_locks import HOLDER
from tests.promises.test_stopping import ADVICE, ENDLESS, HANDLERS, SOON

slow = pytest.mark.slow
SWEEP = [ROOT / "train.py", "-m", "optim=sgd,adam", "lr=1e-3,1e-4", "data=synthetic",
         "logger=none", "data.folds=2", "trainer.num_threads=1", "data.image_baselines=[]",
         "trainer.accelerator=cpu", "trainer.max_epochs=30", *ENCODER]  # fmt: skip
LAUNCHER = ["hydra/launcher=slurm", "hydra.launcher.timeout_min=2", "hydra.launcher.mem_gb=1",
            "hydra.launcher.signal_delay_s=5", "hydra.launcher.cpus_per_task=1",
            "hydra.launcher.gpus_per_node=null"]  # fmt: skip
SLOW_EPOCHS = """
import os, time
replace = os.replace
def slow(source, target, **more):
    replace(source, target, **more)
    if str(target).endswith("last.ckpt"):
        time.sleep(5)
os.replace = slow
"""


@pytest.mark.parametrize("task", ["0", "3"])
def test_several_tasks_are_refused(task, monkeypatch, capsys):
    """`srun --ntasks=4` of a training, prediction or submission → one line, exit code 2, nothing
    done"""
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", task)
    with pytest.raises(SystemExit) as left:
        run_cli(lambda: pytest.fail("it began"))
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (task == "0")
    assert all("4 times" in line for line in lines)


def test_a_warning_requeues_and_ends_the_job(tmp_path, started):
    """SIGUSR2 to a sweep's job, whose launcher requeues it by a handler of its own → the handler is
    called, its exit code is kept, nothing is unwound"""
    launcher = "import os, signal, sys\nsignal.signal(12, lambda *_: print('requeued') or exit(-1))"
    body = "try:\n    os.kill(os.getpid(), 12)\nfinally:\n    print('unwound', flush=True)"
    process = started("-c", f"{launcher}\n{HANDLERS}{body}", cwd=tmp_path)
    assert process.communicate(timeout=SOON) == ("requeued\n", "stopped; rerun\n")
    assert process.returncode == 255


def test_a_requeued_job_waits_for_its_fold(started, tmp_path, monkeypatch, capsys):
    """a node fails, its job is requeued, and the process there lives on → the requeued job waits
    for it, instead of failing"""
    process = started("-c", HOLDER.replace("FORKS", "0"), cwd=tmp_path)
    assert process.stdout.readline()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    threading.Timer(1, process.kill).start()
    with fold_lock(tmp_path / "run", 0):
        assert process.poll() is not None
    assert f"locked by process {process.pid}" in capsys.readouterr().out


def test_a_launcher_without_a_sweep_is_refused(tmp_path):
    """a launcher for a command without -m, which would train on the login node → one line, exit
    code 2"""
    done = python(ROOT / "train.py", "hydra/launcher=slurm", cwd=tmp_path)
    assert done.returncode == 2
    assert "add -m" in one_line(done.stderr)


STAND_INS = {  # of SLURM's commands: job 812 is what the file `queue` says of it
    "srun": "", "sbatch": "echo sbatch >> calls; echo Submitted batch job 812",
    "squeue": "cat queue",
}  # fmt: skip


@pytest.fixture
def submit(tmp_path, monkeypatch, capsys):
    """Return a function that submits a sweep and leaves; it returns exit code, output, errors."""
    pytest.importorskip("submitit")
    (tmp_path / "bin").mkdir()
    for name, command in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.chdir(tmp_path)

    def submit(wait: str = "false") -> tuple[int, str, str]:
        words = ["-m", "lr=1e-3,1e-4", *LAUNCHER, f"hydra.launcher.wait={wait}"]
        try:
            run_cli(lambda: train(words))
            code = 0
        except SystemExit as left:
            code = left.code
        return code, *capsys.readouterr()

    return submit


def test_a_command_submits_and_leaves(submit):
    """`hydra.launcher.wait=false`, and the same command while its jobs run, while SLURM does not
    answer, once they have ended → how to look and collect, exit code 0; one line, no second job;
    one line; submitted, to resume"""
    code, out, err = submit()
    assert (code, err) == (0, "")
    for line in ("job 812_1: lr=0.0001", "squeue --jobs=812", "runs/cv/slurm/812_",
                 "lymphoml list runs=runs/cv", "lymphoml compare runs=runs/cv"):  # fmt: skip
        assert line in out
    queue, calls = Path("queue"), Path("calls")
    queue.write_text("812_0 CG\n812_1 PD\n")
    code, _, err = submit(wait="true")
    assert code == 2
    assert "still queued or running: 1 of these 2 jobs, first 812_1 (lr=0.0001)." in one_line(err)
    queue.unlink()
    assert submit()[0] == 1
    assert calls.read_text() == "sbatch\n"
    queue.write_text("812_0 CG\n900_1 R\n")
    assert submit()[0] == 0
    assert calls.read_text() == "sbatch\n" * 2


RULE, LOG = "\n" + "-" * 22 + "\n", "\nYou can check full logs at paths:\n  - /runs/a/1_0_log.out"
KILLED = (
    "Job 1_0 (task: 0) with path /a/1_0_0_result.pkl\nhas not produced any output (state: FAILED)"
)


@pytest.mark.parametrize(("kind", "text", "code", "shown"), [
    ("FailedJobError", f"Job failed{RULE}a trace\nKeyError: 3{RULE}{LOG}", 1, "KeyError: 3;"),
    ("UncompletedJobError", f"{KILLED}\nError stream produced:{RULE}a log", 1, "(state: FAILED);"),
    ("FailedJobError", "sbatch: error: no partition x\nsbatch: error: failed", 2, "partition x"),
    ("RuntimeError", 'Could not detect "srun", are you on a cluster?', 2, "needs SLURM"),
])  # fmt: skip
def test_a_failure_of_the_cluster_is_one_line(kind, text, code, shown):
    """a job is killed or fails outside the training, a submission is refused, SLURM is not there →
    one line with the reason and where the logs are"""
    utils = pytest.importorskip("submitit.core.utils")
    error = as_user_error(getattr(utils, kind, RuntimeError)(text))
    assert error.code == code
    assert shown in error.problems[0]
    assert error.problems[0].isprintable()


def test_a_failure_keeps_its_line_and_code(capsys):
    """a job fails in another process, of joblib, SLURM or Ray, which sends no traceback → its own
    line, exit code 1"""
    failed = JobReturn(status=JobStatus.FAILED, _return_value=RuntimeFailure("the disk is full"))
    with pytest.raises(SystemExit) as left:
        run_cli(lambda: failed.return_value)
    assert left.value.code == 1
    assert capsys.readouterr().err.endswith("\nerror: the disk is full\n")


@slow
def test_a_warning_to_every_process_is_no_failure(cohort, tmp_path, started):
    """SIGUSR1 before the time limit, which SLURM sends to loader workers too → exit code 138 and
    one line, no worker is taken for dead"""
    words = [*ENDLESS, "model/fusion=none", *ENCODER, f"data.root={cohort}", "data.num_workers=2"]
    process = started(ROOT / "train.py", *words, cwd=tmp_path)
    wait_until((tmp_path / "run/fold-0/previous.ckpt").exists)
    os.killpg(process.pid, signal.SIGUSR1)
    assert process.communicate(timeout=SOON)[1] == ADVICE
    assert process.returncode == 138
    wait_until(lambda: not alive(process.pid), SOON)


def ask(*words: str) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout


def learnt(path: Path) -> bytes:
    """Return the bytes of a checkpoint that depend on no time: the history has images a second."""
    checkpoint, written = load_checkpoint(path), io.BytesIO()
    torch.save([checkpoint[key] for key in ("state_dict", "optimizer_states", "epoch")], written)
    return written.getvalue()


def array_jobs(name: str) -> dict[int, dict[str, str]]:
    """Return what SLURM says of the array's jobs, by index."""
    lines = ask("scontrol", "show", "job", "-o").splitlines()
    jobs = [dict(field.partition("=")[::2] for field in line.split()) for line in lines]
    return {int(job["ArrayTaskId"]): job for job in jobs
            if job["JobName"] == name and job["ArrayTaskId"].isdigit()}  # fmt: skip


@slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(os.geteuid() != 0 or not ask("sh", "-c", "command -v srun && pgrep slurmd"),
                    reason="needs SLURM on this machine, of which it kills a process")  # fmt: skip
def test_limits_and_failures_end_in_the_same_bytes(cohort, tmp_path):
    """an ablation on SLURM whose jobs hit the time limit three times; `scontrol requeue` of one,
    `kill -9` of the node's processes of another → checkpoints, predictions and metrics are those of
    the same sweep on a terminal"""
    root, name = f"data.root={cohort}", f"sweep{os.getpid()}"
    done = python(*SWEEP, root, "name=terminal", cwd=tmp_path, limit=1500)
    assert done.returncode == 0, done.stderr
    (tmp_path / "sitecustomize.py").write_text(SLOW_EPOCHS)
    sweep = start(*SWEEP, root, f"name={name}", *LAUNCHER, cwd=tmp_path,
                  env=os.environ | {"PYTHONPATH": str(tmp_path)})  # fmt: skip
    folder = tmp_path / "runs" / name
    wait_until(lambda: sweep.poll() or len([*folder.glob("*/fold-0/last.ckpt")]) >= 2, 300)
    first, second = list(array_jobs(name).values())[:2]
    subprocess.run(["scontrol", "requeue", first["JobId"]], check=True)
    for process in ask("pgrep", "-f", rf"^slurmstepd: \[{second['JobId']}\.").split():
        os.kill(int(process), signal.SIGKILL)
    subprocess.run(["scontrol", "reconfigure"], check=True)  # have SLURM look at its nodes now
    out, err = sweep.communicate(timeout=2400)
    assert sweep.returncode == 0, out + err
    logs = [set(log.read_text().splitlines()) for log in sorted(folder.glob("slurm/*.out"))]
    limits = [sum("this job is timed-out" in line for line in log) for log in logs]
    print("time limits:", limits, "restarts:", [j["Restarts"] for j in array_jobs(name).values()])
    assert len(limits) == 4
    assert sorted(limits)[1] >= 3  # a process that outlived its node's has had none
    for run in (tmp_path / "runs" / "terminal").iterdir():
        assert outcome(folder / run.name) == outcome(run)
        for path in run.glob("*/last.ckpt"):
            assert learnt(folder / path.relative_to(run.parent)) == learnt(path)
