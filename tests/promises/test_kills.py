"""Exact resume: killed anywhere, the same command ends in the same bytes."""

import collections
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from lymphoml.data.synthetic import synthesize
from tests.promises.nursery import Nursery, Outcome, Trial, nursery

SEED = 5
CODES = {"KILL": -9, "TERM": 143, "INT": 130}
RUN = ["model/encoder=timm", "model.encoder.name=test_resnet", "data=synthetic", "logger=none",
       "data.folds=2", "data.bags_per_batch=3", "trainer.max_epochs=3", "trainer.threads=1",
       "trainer.progress=false", "hydra.run.dir=run"]  # fmt: skip
AUGMENTED = ["data.flip=true", "data.rotate=true", "data.colour=0.1", "data.max_instances=2"]
STOPPED_EARLY = ["data.inner_fraction=0.3", "trainer.patience=1", "trainer.max_epochs=6", "lr=0.5"]
CONFIGURATIONS = {
    "SGD, augmented": ["optim=sgd", *AUGMENTED],
    "Adam, augmented, 2 workers": ["optim=adam", "data.workers=2", *AUGMENTED],
    "SGD, stopped early": ["optim=sgd", "model/pooling=attention", *STOPPED_EARLY],
    "Adam, stopped early, 2 workers": ["optim=adam", "data.workers=2", *STOPPED_EARLY],
}


class Whole(NamedTuple):
    """An undisturbed run."""

    words: list[str]
    folder: Path
    events: list[str]
    seconds: float


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=16, test_patients=3, images=(2, 4), size=32, seed=0)
    return folder


@pytest.fixture(scope="module")
def born() -> Iterator[Nursery]:
    with nursery() as made:
        yield made


@pytest.fixture(scope="module")
def wholes(cohort, born, tmp_path_factory) -> dict[str, Whole]:
    made = {}
    for name, more in CONFIGURATIONS.items():
        folder = tmp_path_factory.mktemp("whole")
        words = [*RUN, f"data.root={cohort}", *more]
        outcome = born.run(Trial(words, str(folder)))
        assert outcome.code == 0, (folder / "output.txt").read_text()
        made[name] = Whole(words, folder / "run", events(folder), outcome.seconds)
    for name in ("SGD, stopped early", "Adam, stopped early, 2 workers"):
        epochs = [json.loads((made[name].folder / f"fold-{k}/done.json").read_text())["epochs"]
                  for k in (0, 1)]  # fmt: skip
        assert min(epochs) < 6
    return made


def events(folder: Path) -> list[str]:
    return (folder / "events.txt").read_text().splitlines()


def content(run: Path) -> dict[str, bytes | str]:
    """What must be the same: every file but the times, the checkpoints and who made it."""
    found: dict[str, bytes | str] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.name == "history.csv":
            found[name] = pd.read_csv(path, dtype=str).drop(columns="images_per_second").to_csv()
        elif path.name == "done.json":
            told = json.loads(path.read_text())
            found[name] = json.dumps({key: told[key] for key in told if key != "seconds"})
        elif path.is_file() and path.suffix in (".csv", ".json", ".yaml"):
            found[name] = path.read_bytes()
    return found


def differences(run: Path, whole: Path) -> list[str]:
    one, other = content(run), content(whole)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*.????????") if path.is_file()]


def drawn(draw: random.Random, whole: Whole, **fixed: object) -> Trial:
    """A moment of the run: a kind of event, and one of its kind; or of the clock."""
    how = draw.choices(["KILL", "TERM", "INT", "MEMORY"], [6, 2, 2, 1])[0]
    trial = Trial(whole.words, "", how)
    if how != "MEMORY" and draw.random() < 0.3:
        trial.after = draw.random() * whole.seconds
    else:
        kind = draw.choice(sorted(set(whole.events)))
        trial.event = draw.choice([n for n, name in enumerate(whole.events) if name == kind])
    return trial


@pytest.mark.timeout(1500)
@pytest.mark.promise(
    "`kill -9`, SIGTERM, SIGINT or refused memory at a moment drawn by a seed: between any two "
    "writes, in any stage, or by the clock; SGD and Adam, 0 and 2 loader workers, augmentation, "
    "instance sampling, early stopping, inner validation; every fourth run is killed twice",
    "the same command ends in the same bytes, after at most one epoch more a kill, and no "
    "temporary file is left",
)
@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_the_same_command_ends_in_the_same_bytes(born, wholes, tmp_path, record_property, kills):
    problems, ends = [], collections.Counter()
    for number in range(kills):
        draw = random.Random(f"{SEED} {number}")
        name = draw.choice(list(wholes))
        whole, folder, epochs = wholes[name], tmp_path / str(number), 0
        folder.mkdir()
        trials = [drawn(draw, whole) for _ in range(2 if number % 4 == 3 else 1)]
        for trial in [*trials, Trial(whole.words, "")]:
            trial.cwd = str(folder)
            outcome = born.run(trial)
            epochs += events(folder).count("epoch")
            ends[trial.how, outcome.code] += 1
            told = (folder / "output.txt").read_text()
            expected = {0, CODES.get(trial.how, 1)}  # 0: it was finished before
            if trial.how == "none":
                expected = {0}
            if outcome.code not in expected:
                problems.append(f"{number} {trial}: exit code {outcome.code}, {told[-2000:]}")
        trained = whole.events.count("epoch")
        different = differences(folder / "run", whole.folder)
        if different or epochs > trained + len(trials) or leftovers(folder):
            problems.append(
                f"seed {SEED}, kill {number}, {name}: {trials}: {different}, {epochs} epochs begun "
                f"instead of {trained}, left: {leftovers(folder)}"
            )
    print(ends)
    record_property("tried", kills)
    assert not problems, "\n".join(problems)
