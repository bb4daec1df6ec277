"""`python -m lymphoml bench`: measure, write results.json and speed.png, tell."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.speed.comparison import compare
from benchmarks.speed.figure import speed_figure
from benchmarks.speed.jobs import Job
from benchmarks.speed.processes import ROOT
from benchmarks.speed.profiles import Profile
from benchmarks.speed.results import collect
from benchmarks.speed.sweeps import bound, sweep
from benchmarks.speed.terminal import show
from lymphoml.core.cores import threads_per_job
from lymphoml.core.errors import InputError
from lymphoml.core.files import write_json
from lymphoml.reports.ablation.figure import write_png
from lymphoml.training import hardware

PRECISIONS = ("auto", "32-true", "bf16-mixed")  # that the plain loop knows as well


def run(
    name: str,
    profile: Profile,
    out: Path,
    threads: int | None,
    precision: str,
    accelerator: str,
    memory_gib: float,
    words: list[str],
) -> None:
    """Measure `profile`, called `name`; `words` are more of train.py's, for lymphoml alone."""
    if problems := list(_problems(threads, precision, memory_gib)):
        raise InputError(problems)
    console, most = Console(soft_wrap=True), bound(memory_gib)
    job = Job(
        variant="reference",
        condition=profile.condition,
        cohort="",
        cache="",
        threads=threads or threads_per_job(1),
        precision=hardware.resolve_precision(precision, accelerator),
        accelerator=accelerator,
        epochs=profile.epochs,
        passes=1,
        words=words,
    )
    with (
        tempfile.TemporaryDirectory(prefix="lymphoml-bench-") as temporary,
        console.status("measuring") as status,
    ):

        def report(what: str) -> None:
            status.update(what)
            if not console.is_terminal:
                console.print(what)

        compared = compare(job, Path(temporary), profile.rounds, most, report)
        swept = sweep(profile, job, Path(temporary), most, report)
    results = collect(name, profile, job, most, compared, swept)
    write_json(out / "results.json", results)
    write_png(speed_figure(results), out / "speed.png")
    show(results, console)
    console.print(f"{out / 'results.json'}, {out / 'speed.png'}")


def _problems(threads: int | None, precision: str, memory_gib: float) -> Iterator[str]:
    if not (ROOT / "train.py").exists():
        yield f"{ROOT}/train.py is missing: measure in a checkout of the project"
    if precision not in PRECISIONS:
        yield f"precision={precision}: allowed are {', '.join(PRECISIONS)}"
    if threads is not None and threads < 1:
        yield f"threads={threads}: give at least 1"
    if memory_gib <= 0:
        yield f"memory_gib={memory_gib}: give a number above 0"
