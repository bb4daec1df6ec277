"""SIGTERM and SIGINT: the end at once, at any moment, of any process"""

import contextlib
import fcntl
import os
import signal
import termios
import time

import pytest
from filelock import FileLock

from tests.promises.nursery import Trial
from tests.promises.processes import ROOT, alive, handles, wait_until

slow = pytest.mark.slow
SOON = 10  # seconds, of which two are promised: machines that run tests are slow
CODES = {"TERM": 143, "INT": 130}
GOES_ON = "stopped; rerun the same command to resume from the last finished epoch\n"
RUN = ["data=synthetic", "logger=none", "data.folds=2", "trainer.num_threads=1",
       "hydra.run.dir=run", "data.image_baselines=[]"]  # fmt: skip
IMAGES = [*RUN, "model/encoder=timm", "model.encoder.name=test_resnet", "trainer.max_epochs=2",
          "data.batch_size=4"]  # fmt: skip
ENDLESS = [*RUN, "model/fusion=clinical", "trainer.max_epochs=100000"]
MOMENTS = [("cohort", 0), ("hash", 3), ("decode", 9), ("size", 0), ("train", 0), ("train", 1),
           ("validate", 5), ("write", 400), ("fsync", 2), ("replace last.ckpt", 0),
           ("replaced last.ckpt.sha256", 0), ("predict", 3), ("baseline", 1),
           ("replace metrics.json", 0)]  # fmt: skip
FEW = [("decode", 9), ("train", 1), ("replace last.ckpt", 0)]
HANDLERS = "from lymphoml.core.signals import install_signal_handlers as f; f('rerun')\n"
SENDS = "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)\n"


@pytest.mark.promise(
    "SIGTERM or SIGINT while the cohort is read, images are hashed or decoded, a batch is trained, "
    "validated or predicted, a checkpoint is written, a baseline is fitted; with 0 and 2 workers",
    "exit code 143 or 130 and one line, at once",
)
@pytest.mark.parametrize(("how", "workers", "moments"), [
    ("TERM", 0, FEW), pytest.param("TERM", 0, MOMENTS, marks=slow),
    pytest.param("INT", 2, MOMENTS, marks=slow),
], ids=["few", "TERM", "INT"])  # fmt: skip
def test_it_stops_in_any_stage(born, cohort, tmp_path, record_property, how, workers, moments):
    """One run, stopped at each moment in turn, and resumed."""
    words = [*IMAGES, f"data.root={cohort}", f"data.num_workers={workers}"]
    for moment in moments:
        outcome = born.run(Trial(words, str(tmp_path), how, moment))
        printed = (tmp_path / "output.txt").read_text()
        assert outcome.code == CODES[how], (moment, printed)
        assert printed.count(GOES_ON) == 1
        assert "Error" not in printed
        assert outcome.latency < SOON, moment
    record_property("tried", len(moments))


@slow
@pytest.mark.promise(
    "SIGTERM while the process waits for another one that builds the image store",
    "exit code 143 and one line, at once",
)
def test_it_stops_while_it_waits_for_a_lock(born, cohort, tmp_path, started):
    words = [*IMAGES, f"data.root={cohort}"]
    born.run(Trial(words, str(tmp_path), "KILL", ("decode", 0)))
    (lock,) = (tmp_path / ".cache" / "images").glob("*/.lock")
    with FileLock(lock):
        second = started(str(ROOT / "train.py"), *words, cwd=tmp_path)
        wait_until(lambda: "waiting" in second.stdout.readline())
        second.terminate()
        assert second.communicate(timeout=SOON)[1] == GOES_ON
    assert second.returncode == 143


@pytest.mark.promise(
    "SIGTERM or SIGINT while modules are imported", "exit code 143 or 130 and one line, at once"
)
@pytest.mark.parametrize(
    "after", [0, pytest.param(0.1, marks=slow), 0.4, *(pytest.param(s, marks=slow) for s in (1, 2))]
)
def test_it_stops_while_it_imports(cohort, tmp_path, started, after):
    how = "INT" if after in (0, 2) else "TERM"
    process = started(str(ROOT / "train.py"), *ENDLESS, f"data.root={cohort}", cwd=tmp_path)
    wait_until(lambda: handles(process.pid, signal.SIGTERM))  # the one set last
    time.sleep(after)
    process.send_signal(signal.Signals[f"SIG{how}"])
    assert process.communicate(timeout=SOON)[1] == GOES_ON
    assert process.returncode == CODES[how]


@pytest.mark.promise(
    "SIGTERM in the middle of an import, under a progress bar",
    "exit code 143 and one line, no exception goes through the import, and the cursor is visible",
)
def test_a_stop_within_an_import(tmp_path, started):
    lines = "".join(f"    {line}\n" for line in SENDS.splitlines())
    swallows = f"try:\n{lines}except BaseException:\n    os.abort()\n"
    (tmp_path / "module.py").write_text(swallows)
    bar = "from lymphoml.core.progress import progress_bar\nwith progress_bar('', 9, shown=True): "
    master, slave = os.openpty()
    process = started(
        "-c", f"{HANDLERS}{bar}import module", cwd=tmp_path, stdout=slave, stderr=slave
    )
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
@pytest.mark.promise(
    "SIGTERM or SIGINT to `predict.py` and `python -m lymphoml`", "exit code 143 or 130, one line"
)
@pytest.mark.parametrize(("how", "script", "command", "count"), [
    ("TERM", "predict.py", [], 1), ("INT", "lymphoml/__main__.py", ["predict"], 4),
])  # fmt: skip
def test_every_command_stops(born, cohort, tmp_path, how, script, command, count):
    root = f"data.root={cohort}"
    words = [*RUN, "model/fusion=clinical", "trainer.max_epochs=1", root]
    assert born.run(Trial(words, str(tmp_path))).code == 0
    words, moment = [*command, "run=run", root], ("predict", count)
    outcome = born.run(Trial(words, str(tmp_path), how, moment, script=script))
    printed = (tmp_path / "output.txt").read_text()
    assert outcome.code == CODES[how], printed
    assert printed.endswith("stopped; rerun the same command\n")
    assert not (tmp_path / "run" / "test").exists()


@slow
@pytest.mark.promise(
    "SIGTERM while a checkpoint is written",
    "every file is what `kill -9` would have left, none is added",
)
def test_a_stop_writes_nothing(born, cohort, tmp_path):
    left = {}
    for how in ("KILL", "TERM"):
        folder = tmp_path / how
        folder.mkdir()
        moment = ("replaced last.ckpt.sha256", 4)
        born.run(Trial([*ENDLESS, f"data.root={cohort}"], str(folder), how, moment))
        left[how] = {
            str(path.relative_to(folder)): path.stat().st_size if "history" not in path.name else 0
            for path in (folder / "run").rglob("*")
            if path.is_file() and not path.match(".*.????????") and path.name != ".lock"
        }
    assert left["KILL"] == left["TERM"]
    assert "run/fold-0/last.ckpt" in left["TERM"]


@pytest.mark.promise("SIGTERM while nothing reads what the process writes", "exit code 143")
def test_a_full_pipe_delays_nothing(tmp_path, started):
    full = "import sys\nprint('ready', end='', flush=True)\nwhile True: sys.stderr.write('x' * 100)"
    process = started("-c", HANDLERS + full, cwd=tmp_path)
    assert process.stdout.read(5) == "ready"
    time.sleep(0.5)
    process.terminate()
    assert process.wait(timeout=SOON) == 143


@slow
@pytest.mark.promise(
    "Ctrl-C in a terminal, with a progress bar and 2 loader workers, which receive it too",
    "exit code 130 and one line, the cursor is visible, no worker is left",
)
def test_control_c_in_a_terminal(cohort, tmp_path, started):
    master, slave = os.openpty()
    words = [*ENDLESS, f"data.root={cohort}", "data.num_workers=2"]
    process = started(
        str(ROOT / "train.py"), *words, cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave,
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
@pytest.mark.promise("`kill -9` of a training process with 2 loader workers", "no worker is left")
def test_no_loader_worker_outlives_its_parent(born, cohort, tmp_path):
    words = [*IMAGES, f"data.root={cohort}", "data.num_workers=2"]
    outcome = born.run(Trial(words, str(tmp_path), "KILL", ("validate", 2)))
    assert outcome.code == -9
    wait_until(lambda: not alive(outcome.session), 3)


@slow
@pytest.mark.promise(
    "SIGTERM, SIGINT or `kill -9` to a sweep whose jobs run side by side",
    "exit code 143 or 130 and one line; no job is left, and none holds a lock",
)
@pytest.mark.parametrize("how", ["TERM", "INT", "KILL"])
def test_a_stopped_sweep_leaves_no_job(cohort, tmp_path, started, how):
    words = ["-m", "fold=0,1", *ENDLESS, f"data.root={cohort}", "hydra/launcher=side_by_side",
             "hydra.sweep.dir=run", "hydra.sweep.subdir=.", "hydra.launcher.n_jobs=2",
             "trainer.enable_progress_bar=false"]  # fmt: skip
    sweep = started(str(ROOT / "train.py"), *words, cwd=tmp_path)
    wait_until(lambda: len(list((tmp_path / "run").glob("fold-*/history.csv"))) == 2)
    assert len(alive(sweep.pid)) >= 3
    if how == "INT":
        os.killpg(sweep.pid, signal.SIGINT)  # a terminal sends it to all
    else:
        sweep.send_signal(signal.Signals[f"SIG{how}"])
    sweep.wait(timeout=SOON)
    wait_until(lambda: not alive(sweep.pid), SOON)
    assert sweep.returncode == CODES.get(how, -9)
    if how != "KILL":
        assert sweep.communicate()[1] == GOES_ON
