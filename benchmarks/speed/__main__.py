"""`python -m lymphoml bench`: speed and memory."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import option


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
    words: list[str] = option(
        [], "more for lymphoml's train.py: [optim=adam,data.augment.flip=true]"
    )
    out: str = option("benchmarks", "folder of results.json and speed.png")


def run(options: Bench) -> None:
    from benchmarks.speed.profiles import choose
    from benchmarks.speed.run import run as measure

    profile = choose(
        options.profile, options.sweeps, size=options.size, bag=options.bag,
        patients=options.patients, rounds=options.rounds, epochs=options.epochs,
    )  # fmt: skip
    measure(
        options.profile, profile, Path(options.out), options.threads, options.precision,
        options.accelerator, options.memory_gib, options.words,
    )  # fmt: skip
