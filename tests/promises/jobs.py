"""What the promises share: jobs on the tiny cohort, processes, and how a refusal looks."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from lymphoml.cli.config import compose_config
from lymphoml.cli.entry import run_cli
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.runs import baselines
from lymphoml.runs.cross_validation import cross_validate

if TYPE_CHECKING:
    from lymphoml.runs.settings import TrainConfig

ROOT = Path(__file__).parents[2]
TINY = ["data=synthetic", "logger=none", "data.folds=2", "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false", "trainer.num_threads=1",
        "data.image_baselines=[]"]  # fmt: skip
ENCODER = ["model/encoder=timm", "model.encoder.name=test_resnet"]
CLINICAL = ["model/fusion=clinical", "data.batch_size=8"]
TABLE = Path("trainset", "trainset_true.csv")  # of a synthetic cohort


@contextlib.contextmanager
def two_trees() -> Iterator[None]:
    """In the baselines' random forest: 100 take longer than a tiny training."""
    forest = baselines.RandomForestClassifier
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "RandomForestClassifier", lambda trees, **more: forest(2, **more))
        yield


def configuration(cohort: Path, cache: Path, *words: str) -> "TrainConfig":
    other = any(word.startswith("model/encoder=") for word in words)
    encoder = [] if other else ENCODER
    return compose_config(*TINY, *encoder, f"data.root={cohort}", f"data.cache={cache}", *words)


def predict(config: "TrainConfig", run: Path) -> None:
    """Predict as the user does: a run folder does not contain where cohort and cache are."""
    places = [f"data.root={config.data.root}", f"data.cache={config.data.cache}"]
    main(["predict", f"run={run}", *places])


def outcome(run: Path) -> dict[str, bytes | str]:
    """Return every table and JSON file of a run but times, environment and digests of these."""
    found: dict[str, bytes | str] = {}
    for path in sorted(each for each in run.rglob("*.*") if each.suffix in (".csv", ".json")):
        name = str(path.relative_to(run))
        if path.name == "history.csv":
            found[name] = pd.read_csv(path, dtype=str).drop(columns="images_per_second").to_csv()
        elif path.name == "done.json":
            found[name] = json.dumps(json.loads(path.read_text()) | {"seconds": 0})
        elif path.name not in ("environment.json", "predictions.json"):
            found[name] = path.read_bytes()
    return found


def edited(cohort: Path, folder: Path, **columns: Any) -> Path:
    """Copy a cohort, these columns of its labelled patients as `DataFrame.assign` takes them."""
    other = Path(shutil.copytree(cohort, folder))
    pd.read_csv(other / TABLE).assign(**columns).to_csv(other / TABLE, index=False)
    return other


def renamed(
    cohort: Path, folder: Path, part: str = "trainset", patients: int | None = None, **columns: Any
) -> Path:
    """Copy a cohort; a part's first `patients` get the ids B00, B01, ..., and these columns."""
    other = Path(shutil.copytree(cohort, folder))
    (path,) = (other / part).glob("*.csv")
    table = pd.read_csv(path, dtype=str)
    for number, patient in enumerate(table["ID"]):
        if patients is None or number < patients:
            (other / part / patient).rename(other / part / f"B{number:02}")
        else:
            shutil.rmtree(other / part / patient)
    table = table[:patients]
    ids = [f"B{number:02}" for number in range(len(table))]
    table.assign(ID=ids, **columns).to_csv(path, index=False)
    return other


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(printed: str) -> str:
    (line,) = printed.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    assert len(line) < 1500
    return line


def problem(job: Callable[[], object]) -> str:
    """Return the one problem for which a function refuses its input."""
    with pytest.raises(InputError) as caught:
        job()
    (line,) = caught.value.problems
    return line


def errors(capsys: pytest.CaptureFixture, job: Callable[[], object], code: int = 2) -> list[str]:
    """Return the lines of error with which a job exits with this code."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        job()
    lines = capsys.readouterr().err.splitlines()
    assert left.value.code == code, lines
    assert all(line.startswith("error: ") for line in lines), lines
    return lines


def train_ends(
    capsys: pytest.CaptureFixture, config: "TrainConfig", run: Path, code: int = 2
) -> list[str]:
    """Return the lines of error with which a training exits with this code."""
    return errors(capsys, lambda: run_cli(lambda: cross_validate(config, run)), code)


def refused(capsys: pytest.CaptureFixture, *words: str) -> str:
    """Return the one line with which `python -m lymphoml WORDS` exits with code 2."""
    return one_line("\n".join(errors(capsys, lambda: main(list(words)))))


class Canary:
    """Pickled, it is a call that creates the folder `place` when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


def few(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Return the cases as parameters: all but the `quick` ones are slow."""
    assert set(quick) <= set(cases), set(quick) - set(cases)
    return [pytest.param(case, marks=() if case in quick else pytest.mark.slow) for case in cases]


def cost(code: str, cwd: Path, limit: float = 60) -> tuple[float, float]:
    """Return MB at its peak, and CPU seconds, that the function `attack` of `code` adds."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is read from /proc")
    measured = f"""
import re, time
from pathlib import Path
{code}
status = Path('/proc/self/status')
peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) / 1024
before, started = peak(), time.process_time()
attack()
print(peak() - before, time.process_time() - started)
"""
    done = python("-c", measured, cwd=cwd, limit=limit)
    assert done.returncode == 0, done.stderr
    memory, seconds = map(float, done.stdout.split()[-2:])
    return memory, seconds


def last_of_each_key(words: Iterable[Any]) -> list[str]:
    """Return a command's words, of a key that a test gives anew the last."""
    return list({str(word).partition("=")[0]: str(word) for word in words}.values())


def start(*words: Any, cwd: Path, **more: Any) -> subprocess.Popen:
    """Start a Python process in a session of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("WANDB_SERVICE", None)  # of W&B in this process
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [sys.executable, *last_of_each_key(words)], cwd=cwd, start_new_session=True,
        **usual | {"env": environment} | more,
    )  # fmt: skip


def python(*words: Any, cwd: Path, limit: float = 120, **more: Any) -> subprocess.CompletedProcess:
    """Run a Python process to its end, in `limit` seconds at most."""
    process = start(*words, cwd=cwd, **more)
    out, err = process.communicate(timeout=limit)
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def alive(session: int) -> list[str]:
    """Return the command lines of a session's processes that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, _, _, its_session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(f"{path.name} {(path / 'cmdline').read_text()}")
    return found


def wait_until(holds: Callable[[], Any], seconds: float = 100) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def end(process: subprocess.Popen) -> None:
    """Kill a process and its children, whatever became of them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
