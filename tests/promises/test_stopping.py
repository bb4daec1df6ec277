"""SIGTERM and SIGINT: the end at once, at any moment, of any process"""

import contextlib
import fcntl
import os
import signal
import termios
import time
from pathlib import Path

import pytest
from filelock import FileLock

from lymphoml.cli.main import main
from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.jobs import ENCODER, ROOT, alive, wait_until
from tests.promises.trials import Trial

slow = pytest.mark.slow
SOON = 10  # seconds, of which two are promised: machines that run tests are slow
CODES = {"TERM": 143, "INT": 130, "KILL": -9}
ADVICE = "stopped; rerun the same command to resume from the last finished epoch\n"
RUN = ["data=synthetic", "logger=none", "data.folds=2", "trainer.num_threads=1",
       "hydra.run.dir=run", "data.image_baselines=[]"]  # fmt: skip
IMAGES = [*RUN, *ENCODER, "trainer.max_epochs=2", "data.batch_size=4"]
ENDLESS = [*RUN, "model/fusion=clinical", "trainer.max_epochs=100000"]
MOMENTS = [("cohort", 0), ("hash", 3), ("decode", 9), ("size", 0), ("train", 0), ("train", 1),
           ("validate", 5), ("write", 400), ("fsync", 2), ("replace last.ckpt", 0),
           ("replaced last.ckpt.sha256", 0), ("predict", 3), ("baseline", 1),
           ("replace metrics.json", 0)]  # fmt: skip
HANDLERS = "from lymphoml.core.signals import install_signal_handlers as f; f('rerun')\n"
ABORTS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
except BaseException:
    os.abort()
"""


@pytest.mark.parametrize(("how", "workers", "moments"), [
    ("TERM", 0, MOMENTS[2:6:3]), pytest.param("TERM", 0, MOMENTS, marks=slow),
    pytest.param("INT", 2, MOMENTS[2:12:3], marks=slow),
], ids=["few", "TERM", "INT"])  # fmt: skip
def test_it_stops_in_any_stage(cohort, tmp_path, how, workers, moments):
    """SIGTERM or SIGINT while the cohort is read, images are hashed or decoded, a batch is trained,
    validated or predicted, a checkpoint is written, a baseline is fitted; with 0 and 2 workers →
    exit code 143 or 130 and one line, at once"""
    words = [*IMAGES, f"data.root={cohort}", f"data.num_workers={workers}"]
    for moment in moments:  # of one run, which is resumed
        outcome = Trial(words, tmp_path, how, moment).run()
        printed = (tmp_path / "output.txt").read_text()
        assert outcome.code == CODES[how], (moment, printed)
        assert printed.count(ADVICE) == 1
        assert "Error" not in printed
        assert outcome.latency < SOON, moment


@slow
def test_it_stops_while_it_waits_for_a_lock(cohort, tmp_path, started):
    """SIGTERM while the process waits for another one that builds the image store → exit code 143
    and one line, at once"""
    words = [*IMAGES, f"data.root={cohort}"]
    Trial(words, tmp_path, "KILL", ("decode", 0)).run()
    (lock,) = (tmp_path / ".cache" / "images").glob("*/.lock")
    with FileLock(lock):
        second = started(ROOT / "train.py", *words, cwd=tmp_path)
        wait_until(lambda: "waiting" in second.stdout.readline())
        second.terminate()
        assert second.communicate(timeout=SOON)[1] == ADVICE
    assert second.returncode == 143


@pytest.mark.parametrize(("how", "after"), [("TERM", 0.4), pytest.param("INT", 2, marks=slow)])
def test_it_stops_while_it_imports(cohort, tmp_path, started, how, after):
    """SIGTERM or SIGINT while modules are imported → exit code 143 or 130 and one line, at once"""
    process = started(ROOT / "train.py", *ENDLESS, f"data.root={cohort}", cwd=tmp_path)
    status = Path(f"/proc/{process.pid}/status")
    caught = lambda: int(status.read_text().partition("SigCgt:")[2].split()[0], 16)  # noqa: E731
    wait_until(lambda: caught() >> (signal.SIGTERM - 1) & 1)  # the one set last
    time.sleep(after)
    process.send_signal(signal.Signals[f"SIG{how}"])
    assert process.communicate(timeout=SOON)[1] == ADVICE
    assert process.returncode == CODES[how]


def test_a_stop_within_an_import(tmp_path, started):
    """SIGTERM in the middle of an import, under a progress bar → exit code 143 and one line, no
    exception goes through the import, and the cursor is visible"""
    (tmp_path / "module.py").write_text(ABORTS)
    bar = "from lymphoml.core.progress import progress_bar\nwith progress_bar('', 9, shown=True): "
    program = f"{HANDLERS}{bar}import module"
    master, slave = os.openpty()
    process = started("-c", program, cwd=tmp_path, stdout=slave, stderr=slave)
    os.close(slave)
    printed = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(master, 1 << 16):
            printed += part
    os.close(master)
    assert process.wait(SOON) == 143
    assert printed.rfind(b"\x1b[?25h") > printed.rfind(b"\x1b[?25l") >= 0
    assert printed.count(b"stopped; rerun") == 1


@slow
@pytest.mark.parametrize(("how", "script", "command", "count"), [
    ("TERM", "predict.py", [], 1), ("INT", "lymphoml/__main__.py", ["predict"], 4),
])  # fmt: skip
def test_every_command_stops(run, cohort, tmp_path, how, script, command, count):
    """SIGTERM or SIGINT to `predict.py` and `python -m lymphoml` → exit code 143 or 130, one
    line"""
    words, moment = [*command, "run=run", f"data.root={cohort}"], ("predict", count)
    outcome = Trial(words, tmp_path, how, moment, script=script).run()
    printed = (tmp_path / "output.txt").read_text()
    assert outcome.code == CODES[how], printed
    assert printed.endswith("stopped; rerun the same command\n")
    assert not (run / "test").exists()


def test_a_full_pipe_delays_nothing(tmp_path, started):
    """SIGTERM while nothing reads what the process writes → exit code 143"""
    full = "import sys\nprint('ready', end='', flush=True)\nwhile True: sys.stderr.write('x' * 100)"
    process = started("-c", HANDLERS + full, cwd=tmp_path)
    assert process.stdout.read(5) == "ready"
    time.sleep(0.5)
    process.terminate()
    assert process.wait(timeout=SOON) == 143


@slow
def test_control_c_in_a_terminal(cohort, tmp_path, started):
    """Ctrl-C in a terminal, with a progress bar and 2 loader workers, which receive it too → exit
    code 130 and one line, the cursor is visible, no worker is left"""
    master, slave = os.openpty()
    process = started(
        ROOT / "train.py", *ENDLESS, f"data.root={cohort}", "data.num_workers=2", cwd=tmp_path,
        stdin=slave, stdout=slave, stderr=slave,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    os.set_blocking(master, False)
    printed = b""

    def read() -> bytes:
        nonlocal printed
        with contextlib.suppress(BlockingIOError, OSError):
            printed += os.read(master, 1 << 16)
        return printed

    wait_until(lambda: read() and (tmp_path / "run/fold-0/history.csv").exists())
    os.write(master, b"\x03")
    wait_until(lambda: read() and process.poll() is not None, SOON)
    assert process.returncode == 130
    read()
    os.close(master)
    assert printed.count(b"stopped; rerun the same command") == 1
    assert b"Traceback" not in printed
    assert printed.rfind(b"\x1b[?25h") > printed.rfind(b"\x1b[?25l") >= 0, printed[-2000:]
    wait_until(lambda: not alive(process.pid), SOON)


@slow
def test_no_loader_worker_outlives_its_parent(cohort, tmp_path):
    """`kill -9` of a training process with 2 loader workers → no worker is left"""
    words = [*IMAGES, f"data.root={cohort}", "data.num_workers=2"]
    outcome = Trial(words, tmp_path, "KILL", ("validate", 2)).run()
    assert outcome.code == -9
    wait_until(lambda: not alive(outcome.session), 3)


@slow
@pytest.mark.parametrize("how", CODES)
def test_a_stopped_sweep_leaves_no_job(cohort, tmp_path, started, how):
    """SIGTERM, SIGINT or `kill -9` to a sweep whose jobs run side by side → exit code 143 or 130
    and one line; no job is left, and none holds a lock"""
    endless = [each for each in ENDLESS if not each.startswith("hydra.run.dir")]
    words = ["-m", "fold=0,1", *endless, f"data.root={cohort}", "hydra/launcher=side_by_side",
             "hydra.sweep.dir=run", "hydra.sweep.subdir=.", "hydra.launcher.n_jobs=2",
             "trainer.enable_progress_bar=false"]  # fmt: skip
    sweep = started(ROOT / "train.py", *words, cwd=tmp_path)
    wait_until(lambda: len(list((tmp_path / "run").glob("fold-*/history.csv"))) == 2)
    assert len(alive(sweep.pid)) >= 3
    stop = os.killpg if how == "INT" else os.kill  # a terminal's goes to all
    stop(sweep.pid, signal.Signals[f"SIG{how}"])
    sweep.wait(timeout=SOON)
    wait_until(lambda: not alive(sweep.pid), SOON)
    assert sweep.returncode == CODES[how]
    if how != "KILL":
        assert sweep.communicate()[1] == ADVICE


MEASURE = """
import sys
from lymphoml.cli.main import main
from lymphoml.core.signals import install_signal_handlers
from lymphoml.features import feature_cache
feature_cache.FEW, feature_cache.available_cores = 1, lambda: 2
if __name__ == "__main__":
    install_signal_handlers("again")
    main(["features", "cohort=synthetic", *sys.argv[1:]])
"""


@slow
@pytest.mark.parametrize("how", ["TERM", "KILL"])
def test_no_measuring_process_is_left(how, tmp_path, started):
    """SIGTERM or `kill -9` while several processes compute features → all end; finished
    patients are kept, and the same command resumes to the same bytes"""
    root, whole = f"data.root={tmp_path}/cohort", tmp_path / "whole.npz"
    synthesize(tmp_path / "cohort", patients=15, test_patients=1, images=(8, 8), size=64, seed=0)
    main(["features", "cohort=synthetic", root, f"data.cache={tmp_path}/whole", f"out={whole}"])
    (tmp_path / "measure.py").write_text(MEASURE)
    words = ["measure.py", "out=features.npz", root]
    process = started(*words, cwd=tmp_path)
    wait_until(lambda: len(list(tmp_path.glob(".cache/features/*/*.npy"))) > 2)
    process.send_signal(signal.Signals[f"SIG{how}"])
    assert process.wait(SOON) == CODES[how]
    wait_until(lambda: not alive(process.pid), SOON)
    kept = {part: part.stat().st_mtime_ns for part in tmp_path.glob(".cache/features/*/*.npy")}
    assert 2 < len(kept) < 16
    assert started(*words, cwd=tmp_path).communicate()[1] == ""
    assert all(part.stat().st_mtime_ns == when for part, when in kept.items())
    assert (tmp_path / "features.npz").read_bytes() == whole.read_bytes()
