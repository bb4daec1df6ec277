"""Stopping: SIGTERM and SIGINT, at any moment, in any process."""

import contextlib
import fcntl
import os
import signal
import termios
import time

import pytest
from filelock import FileLock

from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.nursery import Trial, nursery
from tests.promises.processes import ROOT, alive, handles, wait_until

SOON = 10  # seconds, of which two are promised: machines that run tests are slow
CODES = {"TERM": 143, "INT": 130}
GOES_ON = "stopped; rerun the same command to resume from the last finished epoch\n"
RUN = ["data=synthetic", "logger=none", "data.folds=2", "trainer.num_threads=1", "hydra.run.dir=run",
       "data.image_baselines=[]"]  # fmt: skip
IMAGES = [*RUN, "model/encoder=timm", "model.encoder.name=test_resnet", "trainer.max_epochs=2",
          "data.batch_size=4"]  # fmt: skip
ENDLESS = [*RUN, "model/fusion=clinical", "trainer.max_epochs=100000"]
MOMENTS = [("cohort", 0), ("hash", 3), ("decode", 9), ("size", 0), ("train", 0), ("train", 1),
           ("validate", 5), ("write", 400), ("fsync", 2), ("replace last.ckpt", 0),
           ("replaced last.ckpt.sha256", 0), ("predict", 3), ("baseline", 1),
           ("replace metrics.json", 0)]  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=16, test_patients=3, images=(2, 4), size=32, seed=0)
    return folder


@pytest.fixture(scope="module")
def born():
    with nursery() as made:
        yield made


@pytest.mark.promise(
    "SIGTERM or SIGINT while the cohort is read, images are hashed or decoded, the encoder is "
    "tried, a batch is trained, validated or predicted, a checkpoint is written, a baseline is "
    "fitted; without loader workers and with 2",
    "exit code 143 or 130 and one line, at once",
)
@pytest.mark.parametrize(("how", "workers"), [("TERM", 0), ("INT", 2)])
def test_it_stops_in_any_stage(born, cohort, tmp_path, record_property, how, workers):
    """One run, stopped at each moment in turn, and gone on with."""
    words = [*IMAGES, f"data.root={cohort}", f"data.num_workers={workers}"]
    latencies = {}
    for moment in MOMENTS:
        outcome = born.run(Trial(words, str(tmp_path), how, moment))
        told = (tmp_path / "output.txt").read_text()
        assert outcome.code == CODES[how], (moment, told)
        assert told.count(GOES_ON) == 1
        assert "Error" not in told
        assert outcome.latency < SOON, moment
        latencies[moment] = round(outcome.latency, 2)
    print(how, latencies)
    record_property("tried", len(MOMENTS))


@pytest.mark.promise(
    "SIGTERM while another process builds the image store, and this one waits for it",
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
@pytest.mark.parametrize("after", [0, 0.1, 0.4, 1, 2, 3])
def test_it_stops_while_it_imports(cohort, tmp_path, started, after):
    how = "INT" if after in (0, 0.4, 2) else "TERM"
    number = signal.Signals[f"SIG{how}"]
    process = started(str(ROOT / "train.py"), *ENDLESS, f"data.root={cohort}", cwd=tmp_path)
    wait_until(lambda: handles(process.pid, signal.SIGTERM))  # the one set last
    time.sleep(after)
    process.send_signal(number)
    assert process.communicate(timeout=SOON)[1] == GOES_ON
    assert process.returncode == CODES[how]


@pytest.mark.promise(
    "SIGTERM while a module in C++ is imported",
    "exit code 143 and one line: no exception goes through it",
)
def test_no_exception_goes_through_an_import(tmp_path, started):
    (tmp_path / "module.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "except BaseException:\n"
        "    os.abort()\n"
    )
    begin = "from lymphoml.core.signals import install_signal_handlers; install_signal_handlers('go on')"
    process = started("-c", f"{begin}; import module", cwd=tmp_path)
    assert process.communicate(timeout=SOON)[1] == "stopped; go on\n"
    assert process.returncode == 143


@pytest.mark.promise(
    "SIGTERM amid an import under a progress bar", "exit code 143, and the cursor is there again"
)
def test_a_bar_that_is_not_closed_gives_the_cursor_back(tmp_path, started):
    (tmp_path / "module.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)\n"
    )
    begin = (
        "from lymphoml.core.signals import install_signal_handlers; install_signal_handlers('go on')\n"
        "from lymphoml.core.progress import progress_bar\n"
        "with progress_bar('', 9, shown=True): import module"
    )
    master, slave = os.openpty()
    process = started("-c", begin, cwd=tmp_path, stdout=slave, stderr=slave)
    os.close(slave)
    told = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(master, 1 << 16):
            told += part
    os.close(master)
    assert process.wait(SOON) == 143
    assert told.rfind(b"\x1b[?25h") > told.rfind(b"\x1b[?25l") >= 0
    assert told.count(b"stopped; go on") == 1


@pytest.mark.promise(
    "SIGTERM or SIGINT to `predict.py` and `python -m lymphoml`", "exit code 143 or 130, one line"
)
def test_every_command_stops(born, cohort, tmp_path, record_property):
    words = [*RUN, "model/fusion=clinical", "trainer.max_epochs=1", f"data.root={cohort}"]
    assert born.run(Trial(words, str(tmp_path))).code == 0
    for how, script, command, moment in (
        ("TERM", "predict.py", [], ("predict", 1)),
        ("INT", "lymphoml/__main__.py", ["predict"], ("predict", 4)),
    ):
        outcome = born.run(
            Trial(
                [*command, "run=run", f"data.root={cohort}"],
                str(tmp_path),
                how,
                moment,
                script=script,
            )
        )
        told = (tmp_path / "output.txt").read_text()
        assert outcome.code == CODES[how], told
        assert told.endswith("stopped; rerun the same command\n")
        assert not (tmp_path / "run" / "test").exists()
    record_property("tried", 2)


@pytest.mark.promise(
    "SIGTERM amid a checkpoint", "every file is what `kill -9` would have left, none is added"
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


FULL_PIPE = """
import os, signal, sys
from lymphoml.core.signals import install_signal_handlers
install_signal_handlers("tested")
sys.stdout.write("ready")
sys.stdout.flush()
while True:
    sys.stderr.write("x" * 100)
"""


@pytest.mark.promise("SIGTERM while nobody reads what the process writes", "exit code 143")
def test_a_full_pipe_holds_nothing_up(tmp_path, started):
    process = started("-c", FULL_PIPE, cwd=tmp_path)
    assert process.stdout.read(5) == "ready"
    time.sleep(0.5)
    process.terminate()
    assert process.wait(timeout=SOON) == 143


@pytest.mark.promise(
    "Ctrl-C in a terminal, with a progress bar and 2 loader workers, which get it too",
    "exit code 130 and one line, the cursor is back, no worker stays",
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
    told = b""

    def read() -> bytes:
        nonlocal told
        with contextlib.suppress(BlockingIOError, OSError):
            told += os.read(master, 1 << 16)
        return told

    wait_until(lambda: read() and (tmp_path / "run/fold-0/history.csv").exists())
    os.write(master, b"\x03")
    asked = time.monotonic()
    wait_until(lambda: read() and process.poll() is not None, SOON)
    assert process.returncode == 130
    read()
    os.close(master)
    tail = told.decode()
    assert tail.count("stopped; rerun the same command") == 1
    assert "Traceback" not in tail
    assert tail.rfind("\x1b[?25h") > tail.rfind("\x1b[?25l") >= 0, tail[-2000:]
    wait_until(lambda: not alive(process.pid), SOON)
    print("Ctrl-C", round(time.monotonic() - asked, 2))


@pytest.mark.promise(
    "`kill -9` of a training process with 2 loader workers", "none of them outlives it"
)
def test_no_loader_worker_outlives_its_parent(born, cohort, tmp_path):
    words = [*IMAGES, f"data.root={cohort}", "data.num_workers=2"]
    outcome = born.run(Trial(words, str(tmp_path), "KILL", ("validate", 2)))
    assert outcome.code == -9
    wait_until(lambda: not alive(outcome.session), 3)


@pytest.mark.promise(
    "SIGTERM, SIGINT or `kill -9` to a sweep whose jobs run side by side",
    "exit code 143 or 130 and one line; no job goes on, and none holds a lock",
)
@pytest.mark.parametrize("how", ["TERM", "INT", "KILL"])
def test_a_stopped_sweep_leaves_no_job(cohort, tmp_path, started, how):
    words = ["-m", "fold=0,1", *ENDLESS, f"data.root={cohort}", "hydra/launcher=side_by_side",
             "hydra.sweep.dir=run", "hydra.sweep.subdir=.", "hydra.launcher.n_jobs=2",
             "trainer.enable_progress_bar=false"]  # fmt: skip
    sweep = started(str(ROOT / "train.py"), *words, cwd=tmp_path)
    wait_until(lambda: len(list((tmp_path / "run").glob("fold-*/history.csv"))) == 2)
    assert len(alive(sweep.pid)) >= 3
    asked = time.monotonic()
    if how == "INT":
        os.killpg(sweep.pid, signal.SIGINT)  # a terminal sends it to all
    else:
        sweep.send_signal(signal.Signals[f"SIG{how}"])
    sweep.wait(timeout=SOON)
    wait_until(lambda: not alive(sweep.pid), SOON)
    print(how, round(time.monotonic() - asked, 2))
    assert sweep.returncode == CODES.get(how, -9)
    if how != "KILL":
        assert sweep.communicate()[1] == GOES_ON
