"""One measurement: a variant under a condition, in processes of its own."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed.jobs import Answer, Job
from benchmarks.speed.processes import ROOT, Finished, python
from lymphoml.core.errors import InputError

OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # of a GPU, of the machine
INTERRUPTED = 130  # how train.py ends where it is stopped after so many steps


@dataclass(frozen=True)
class Measurement:
    """What one variant did once; `obstacle` says why it did not."""

    answer: Answer
    first_step_seconds: float | None = None  # since the process began: imports, data, model, step
    seconds: float = 0.0  # of the whole process that trains
    peak_mib: float | None = None  # resident, of the largest process
    others: float | None = None  # cores busy with something else meanwhile
    obstacle: str | None = None


def measure(job: Job, bound_mib: float) -> Measurement:
    """Raises InputError where a process fails for another reason than memory."""
    # On the disk of the cohort: train.py's run folder lies in it.
    with TemporaryDirectory(dir=job.cache) as temporary:
        folder = Path(temporary)
        if job.variant != "lymphoml":
            return _run(job, folder, _worker(job, folder), bound_mib)
        trained = _run(job, folder, _launch(job, folder), bound_mib)
        if trained.obstacle or job.steps is not None:
            return trained
        training = replace(trained, answer=_with_history(trained.answer, folder / "run"))
        if not job.passes:
            return training
        words = ["-m", "benchmarks.speed.inference", "run", str(job.passes), "answer.json",
                 str(job.cohort), str(job.cache)]  # fmt: skip
        predicted = _run(job, folder, words, bound_mib)
        return replace(
            training,
            answer=training.answer.merged(predicted.answer),
            peak_mib=_highest(trained.peak_mib, predicted.peak_mib),
            others=_highest(trained.others, predicted.others),
            obstacle=predicted.obstacle,
        )


def _worker(job: Job, folder: Path) -> list[str]:
    (folder / "job.json").write_text(json.dumps(asdict(job)))
    return ["-m", "benchmarks.speed.worker", "job.json", "answer.json"]


def _launch(job: Job, folder: Path) -> list[str]:
    epochs = 1 if job.steps is not None else job.epochs + 1
    return [
        "-m", "benchmarks.speed.launch", "answer.json", str(job.steps or 0),
        str(ROOT / "train.py"), "experiment=paper", "data=synthetic", "fold=0", "name=bench",
        "data.image_baselines=[]", f"data.root={job.cohort}", f"data.cache={job.cache}",
        f"data.num_workers={job.condition.workers}", f"trainer.max_epochs={epochs}",
        f"trainer.num_threads={job.threads}", f"trainer.precision={job.precision}",
        f"trainer.accelerator={job.accelerator}", f"hydra.run.dir={folder / 'run'}", *job.words,
    ]  # fmt: skip


def _run(job: Job, folder: Path, words: list[str], bound_mib: float) -> Measurement:
    done = python(words, bound_mib, folder)
    if done.stopped:
        return Measurement(
            Answer(),
            obstacle=f"does not fit: stopped when it held more than {bound_mib:.0f} MiB",
        )
    if done.code and any(words in done.told.lower() for words in OUT_OF_MEMORY):
        return Measurement(Answer(), obstacle="does not fit: out of memory")
    if done.code not in (0, INTERRUPTED if job.steps else 0):
        raise InputError(_failure(job, done))
    answer = Answer(**json.loads((folder / "answer.json").read_text()))
    first = answer.first_step_at
    return Measurement(
        answer,
        None if first is None else first - done.started_at,
        done.seconds,
        done.peak_mib,
        done.others,
    )


def _with_history(answer: Answer, run: Path) -> Answer:
    """The run's own account of its epochs' speed, but for the first."""
    import pandas as pd

    history = pd.read_csv(run / "fold-0" / "history.csv")
    return replace(answer, training=history["images_per_second"].tolist()[1:])


def _highest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _failure(job: Job, done: Finished) -> list[str]:
    lines = [line for line in done.told.splitlines() if line.strip()]
    return [f"the measurement of {job.variant} failed with code {done.code}:", *lines[-5:]]
