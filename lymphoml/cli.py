"""`python -m lymphoml COMMAND key=value ...`: everything but training.

Each command is a dataclass of its options and a function; heavy imports happen inside, so that
`--help` is instant.
"""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING

from lymphoml.config import parse, run_config
from lymphoml.entry import entry
from lymphoml.errors import InputError

T = TypeVar("T")


def option(default: Any, help: str) -> Any:
    """A dataclass field with its line of `--help`."""
    if isinstance(default, list | dict):
        return field(default_factory=lambda: default, metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class Synthesize:
    """Draw a synthetic cohort in the Kaggle layout, with the best possible scores beside it."""

    out: str = option(MISSING, "new folder")
    patients: int = option(60, "labelled patients")
    test_patients: int = option(15, "unlabelled patients")
    images: list[int] = option([16, 198], "images a patient, fewest and most")
    size: int = option(224, "pixels a side")
    seed: int = option(0, "another number, another cohort")


@dataclass
class Predict:
    """Predict patients with a finished run: the mean over its folds, and a Kaggle submission."""

    run: str = option(MISSING, "run folder")
    data: dict[str, Any] = option({}, "changes to the run's data settings: data.root=DIR")
    trainer: dict[str, Any] = option({}, "the same for trainer: trainer.accelerator=cpu")
    out: str | None = option(None, "folder for the two files; RUN/test by default")
    patients: str = option("unlabelled", "unlabelled or all")
    header: list[str] = option(["ID", "LABEL"], "of submission.csv; Id,Predicted in 2021")


@dataclass
class Submit:
    """Send a run's submission.csv to Kaggle, and believe only a confirmed success."""

    run: str = option(MISSING, "run folder, predicted before")
    header: list[str] = option(["ID", "LABEL"], "that the competition wants")
    message: str = option(MISSING, "what Kaggle shows beside the submission")
    competition: str = option("dlmi-lymphocytosis-classification", "its name in Kaggle's address")


@dataclass
class Report:
    """One self-contained HTML page of a finished run."""

    run: str = option(MISSING, "run folder")
    out: str | None = option(None, "file; RUN/report.html by default")


@dataclass
class Ablation:
    """Table, figure and best configuration of a sweep's finished runs."""

    runs: str = option("runs/ablation", "the sweep's folder")


@dataclass
class Bench:
    """Speed and memory side by side: the report's recipe, a plain PyTorch loop, lymphoml."""

    profile: str = option("quick", "quick: minutes; full: half an hour, also large bags")
    size: int | None = option(None, "pixels a side of the comparison; the profile's by default")
    bag: int | None = option(None, "images a patient, likewise")
    patients: int | None = option(None, "labelled, one in five held out, likewise")
    rounds: int | None = option(None, "of all three, one after the other, likewise")
    epochs: int | None = option(None, "timed, a round and variant, likewise")
    sweeps: bool = option(True, "also vary bag, patients, workers and size, one at a time")
    threads: int | None = option(None, "of one operation; every core by default")
    precision: str = option("auto", "of the loop and lymphoml; the report's recipe is in 32-true")
    accelerator: str = option("auto", "auto, cpu or gpu")
    memory_gib: float = option(6.0, "what would hold more is left out, or stopped")
    words: list[str] = option([], "more for lymphoml's train.py: [optim=adam,data.flip=true]")
    out: str = option("benchmarks", "folder of results.json and speed.png")


def synthesize(options: Synthesize) -> None:
    from lymphoml.data.synthetic import synthesize as draw

    out, images = Path(options.out), _pair("images", options.images)
    truth = draw(out, options.patients, options.test_patients, images, options.size, options.seed)
    print(f"{out}: {options.patients} labelled and {options.test_patients} test patients")
    for source, best in truth["best_balanced_accuracy"].items():
        print(f"  best possible balanced accuracy from {source}: {best['value']:.3f}")


def predict(options: Predict) -> None:
    from lymphoml.prediction import predict as run_folds

    run = Path(options.run)
    out = Path(options.out) if options.out else run / "test"
    header = _pair("header", options.header)
    config = run_config(run, options.data, options.trainer)
    table = run_folds(run, config, out, options.patients, header)
    tumoral = int(table["label"].sum())
    print(f"{len(table)} patients, {tumoral} called tumoral: {out / 'predictions.csv'}")
    print(f"Kaggle file: {out / 'submission.csv'}")


def submit(options: Submit) -> None:
    from lymphoml.runs import read_table
    from lymphoml.submission import check_submission
    from lymphoml.submission import submit as send

    folder = Path(options.run) / "test"
    if not (folder / "predictions.csv").exists():
        raise InputError(f"run={options.run}: {folder} holds no prediction; run predict.py first")
    patients = read_table(folder / "predictions.csv")["patient"].tolist()
    check_submission(folder / "submission.csv", patients, _pair("header", options.header))
    print(send(folder / "submission.csv", options.competition, options.message))


def report(options: Report) -> None:
    from lymphoml.report.page import write_report

    run = Path(options.run)
    print(write_report(run, Path(options.out) if options.out else run / "report.html"))


def ablation(options: Ablation) -> None:
    from lymphoml.report.ablation import summarise_ablation

    summarise_ablation(Path(options.runs))


def bench(options: Bench) -> None:
    from lymphoml.benchmark.profiles import choose
    from lymphoml.benchmark.run import run

    profile = choose(
        options.profile, options.sweeps, size=options.size, bag=options.bag,
        patients=options.patients, rounds=options.rounds, epochs=options.epochs,
    )  # fmt: skip
    run(
        options.profile, profile, Path(options.out), options.threads, options.precision,
        options.accelerator, options.memory_gib, options.words,
    )  # fmt: skip


def _pair(key: str, values: list[T]) -> tuple[T, T]:
    if len(values) != 2:
        raise InputError(f"{key}={values}: give two values, as [first,second]")
    return values[0], values[1]


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "synthesize": (Synthesize, synthesize),
    "predict": (Predict, predict),
    "submit": (Submit, submit),
    "report": (Report, report),
    "ablation": (Ablation, ablation),
    "bench": (Bench, bench),
}


def main(words: list[str] | None = None) -> None:
    entry(lambda: _run(sys.argv[1:] if words is None else words))


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help", "help"):
        print("usage: python -m lymphoml COMMAND key=value ...\n")
        for name, (schema, _) in COMMANDS.items():
            print(f"  {name:12} {schema.__doc__}")
        print("\npython -m lymphoml COMMAND --help lists its keys. Training is train.py.")
        return
    name, *rest = words
    if name not in COMMANDS:
        raise InputError(f"{name}: no such command; there are {', '.join(COMMANDS)}")
    schema, function = COMMANDS[name]
    if {"-h", "--help"} & set(rest):
        print(f"{schema.__doc__}\n")
        for key in dataclasses.fields(schema):
            default = key.default
            if callable(key.default_factory):
                default = key.default_factory()
            shown = "required" if default == MISSING else f"default {default}"
            print(f"  {key.name:14} {key.metadata['help']} ({shown})")
        return
    function(parse(schema, rest))
