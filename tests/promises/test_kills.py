"""Exact resume: killed anywhere, the same command ends in the same bytes."""

import json
import random
import re
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.nursery import Nursery, Trial, nursery
from tests.promises.processes import ROOT, end, start, wait_until

SEED = 5
KILLS = 3  # of one run, one after the other
CODES = {"KILL": -9, "TERM": 143, "INT": 130, "MEMORY": 1}
RUN = ["model/encoder=timm", "model.encoder.name=test_resnet", "data=synthetic", "logger=none",
       "data.folds=2", "data.batch_size=3", "trainer.max_epochs=3", "trainer.num_threads=1",
       "trainer.enable_progress_bar=false", "hydra.run.dir=run", "data.image_baselines=[]"]  # fmt: skip
AUGMENTED = ["data.augment.flip=true", "data.augment.rotate=true", "data.augment.color_jitter=0.1", "data.augment.stain_jitter=0.1",
             "data.augment.scale=0.1", "data.train_bag_size=2"]  # fmt: skip
STOPPED_EARLY = [
    "data.inner_val_fraction=0.3",
    "trainer.patience=1",
    "trainer.max_epochs=6",
    "lr=0.5",
]
CONFIGURATIONS = {
    "SGD, augmented": ["optim=sgd", *AUGMENTED],
    "Adam, augmented, 2 workers": ["optim=adam", "data.num_workers=2", *AUGMENTED],
    "SGD, stopped early": ["optim=sgd", "model/pooling=attention", *STOPPED_EARLY],
    "Adam, stopped early, 2 workers": ["optim=adam", "data.num_workers=2", *STOPPED_EARLY],
}


class Whole(NamedTuple):
    """An undisturbed run."""

    words: list[str]
    folder: Path
    events: Counter[str]
    seconds: float


MOMENTS = [".cache/images/*/*.npy", "run/fold-0/last.ckpt", "run/fold-1/last.ckpt"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=16, test_patients=3, images=(2, 4), size=32, seed=0)
    return folder


@pytest.fixture(scope="module")
def nurseries() -> Iterator[list[Nursery]]:
    with nursery() as one, nursery() as other:
        yield [one, other]


@pytest.fixture(scope="module")
def wholes(cohort, nurseries, tmp_path_factory) -> dict[str, Whole]:
    made = {}
    for name, more in CONFIGURATIONS.items():
        folder = tmp_path_factory.mktemp("whole")
        words = [*RUN, f"data.root={cohort}", *more]
        outcome = nurseries[0].run(Trial(words, str(folder)))
        assert outcome.code == 0, (folder / "output.txt").read_text()
        made[name] = Whole(words, folder / "run", events(folder), outcome.seconds)
    for name in ("SGD, stopped early", "Adam, stopped early, 2 workers"):
        epochs = [json.loads((made[name].folder / f"fold-{k}/done.json").read_text())["epochs"]
                  for k in (0, 1)]  # fmt: skip
        assert min(epochs) < 6
    return made


def events(folder: Path) -> Counter[str]:
    return Counter((folder / "events.txt").read_text().splitlines())


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
        elif path.suffix in (".csv", ".json", ".yaml") and path.name != "environment.json":
            found[name] = path.read_bytes()
    return found


def differences(run: Path, whole: Path) -> list[str]:
    one, other = content(run), content(whole)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*.????????") if path.is_file()]


def drawn(draw: random.Random, whole: Whole, before: int) -> Trial:
    """A moment: a kind of event, and one of its kind; or one of the clock.

    What was killed before has less left to do.
    """
    how = draw.choices(["KILL", "TERM", "INT", "MEMORY"], [6, 2, 2, 1])[0]
    if how != "MEMORY" and draw.random() < 0.25:
        return Trial(whole.words, "", how, after=draw.random() * whole.seconds / (1 + before))
    kind = draw.choice(sorted(whole.events))
    return Trial(
        whole.words, "", how, (kind, draw.randrange(1 + whole.events[kind] // (1 + before)))
    )


def killed_and_resumed(
    number: int, born: Nursery, wholes: dict[str, Whole], folder: Path
) -> tuple[Counter[str], list[str]]:
    """How often what ended a run of this number, and what was wrong in the end."""
    draw = random.Random(f"{SEED} {number}")
    name = draw.choice(list(wholes))
    whole, trials, ends, begun, problems = wholes[name], [], Counter(), 0, []
    folder.mkdir()
    for kill in range(KILLS + 1):
        trial = drawn(draw, whole, kill) if kill < KILLS else Trial(whole.words, "")
        trial.cwd = str(folder)
        outcome = born.run(trial)
        begun += events(folder)["epoch"]
        trials.append(trial)
        if outcome.code:
            ends[trial.how] += 1
        allowed = {0, CODES.get(trial.how, 0)}
        if trial.after is not None:  # before the handlers are set, and when all is done
            allowed.add(-signal.Signals[f"SIG{trial.how}"])
        if trial.how == "MEMORY":  # native code that does not look at what it was given
            allowed |= {-signal.SIGSEGV, -signal.SIGABRT}
        if outcome.code not in allowed:
            problems.append(f"exit code {outcome.code}: {(folder / 'output.txt').read_text()}")
    if different := differences(folder / "run", whole.folder):
        problems.append(f"other bytes in {different}")
    if begun > whole.events["epoch"] + ends.total():
        problems.append(f"{begun} epochs begun, {whole.events['epoch']} in the undisturbed run")
    if left := leftovers(folder):
        problems.append(f"left: {left}")
    return ends, [f"seed {SEED}, run {number}, {name}, {trials}: {each}" for each in problems]


@pytest.mark.promise(
    "`kill -9` of plain `python train.py` decoding images, in its first fold, in its second",
    "the same command ends in the same bytes",
)
@pytest.mark.parametrize("moments", [MOMENTS[-1:], pytest.param(MOMENTS, marks=pytest.mark.slow)])
def test_plain_processes_resume_too(wholes, tmp_path, record_property, moments):
    whole = wholes["Adam, augmented, 2 workers"]
    for moment in moments:
        process = start(str(ROOT / "train.py"), *whole.words, cwd=tmp_path)
        try:
            wait_until(lambda moment=moment: list(tmp_path.glob(moment)))
            process.kill()
        finally:
            end(process)
        assert process.returncode == -9
    last = start(str(ROOT / "train.py"), *whole.words, cwd=tmp_path)
    told = last.communicate()[0]
    assert last.returncode == 0
    assert re.search(r"fold 1 goes on after epoch \d of 3", told)
    assert differences(tmp_path / "run", whole.folder) == []
    assert leftovers(tmp_path) == []
    record_property("tried", len(moments))


@pytest.mark.timeout(3000)
@pytest.mark.promise(
    "`kill -9`, SIGTERM, SIGINT or refused memory at moments drawn by a seed: before, within and "
    "after any write, in any stage, or by the clock; three times a run; SGD and Adam, 0 and 2 "
    "loader workers, augmentation, instance sampling, inner validation, early stopping",
    "the same command ends in the same bytes, a kill costs one epoch at most, and no temporary "
    "file is left",
)
@pytest.mark.parametrize("kills", [15, pytest.param(200, marks=pytest.mark.slow)])
def test_the_same_command_ends_in_the_same_bytes(
    nurseries, wholes, tmp_path, record_property, kills
):
    numbers, ends, problems = iter(range(10 * kills)), Counter(), []

    def serve(born: Nursery) -> None:
        while ends.total() < kills:
            number = next(numbers)
            ended, wrong = killed_and_resumed(number, born, wholes, tmp_path / str(number))
            ends.update(ended)
            problems.extend(wrong)

    with ThreadPoolExecutor(len(nurseries)) as pool:
        list(pool.map(serve, nurseries))
    record_property("tried", ends.total())
    print(ends)
    assert not problems, "\n".join(problems)
