"""`python -m lymphoml bench`: measure, write results.json and speed.png, tell."""

import tempfile
from pathlib import Path

from rich.console import Console

from lymphoml import compute
from lymphoml.benchmark.comparison import compare
from lymphoml.benchmark.figure import speed_figure
from lymphoml.benchmark.jobs import Job
from lymphoml.benchmark.processes import ROOT
from lymphoml.benchmark.profiles import Profile
from lymphoml.benchmark.results import collect
from lymphoml.benchmark.sweeps import bound, sweep
from lymphoml.benchmark.terminal import show
from lymphoml.errors import InputError
from lymphoml.files import write_json
from lymphoml.report.ablation_figure import write_png


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
    if not (ROOT / "train.py").exists():
        raise InputError(f"{ROOT}/train.py is missing: measure in a checkout of the project")
    console, most = Console(soft_wrap=True), bound(memory_gib)
    job = Job(
        variant="reference",
        condition=profile.condition,
        cohort="",
        cache="",
        threads=compute.set_threads(threads),
        precision=compute.precision(precision, accelerator),
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
