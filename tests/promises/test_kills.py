"""Exact resume: killed at any moment, the same command ends in the same bytes"""

import json
import random
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from tests.promises.nursery import Nursery, Trial, nursery
from tests.promises.processes import ROOT, end, start, wait_until

SEED = 5
KILLS = 3  # of one run, one after the other
CODES = {"KILL": -9, "TERM": 143, "INT": 130, "MEMORY": 1}
RUN = ["model/encoder=timm", "model.encoder.name=test_resnet", "data=synthetic", "logger=none",
       "data.folds=2", "data.batch_size=3", "trainer.max_epochs=3", "trainer.num_threads=1",
       "trainer.enable_progress_bar=false", "hydra.run.dir=run",
       "data.image_baselines=[]"]  # fmt: skip
AUGMENTED = [f"data.augment.{each}" for each in (
    "flip=true", "rotate=any", "color_jitter=0.1", "stain_jitter=0.1", "scale=0.1")] + [
    "data.train_bag_size=2"]  # fmt: skip
EARLY = ["data.inner_val_fraction=0.3", "trainer.patience=1", "trainer.max_epochs=6", "lr=0.5"]
ADAM = ["optim=adam", "data.num_workers=2"]
CONFIGURATIONS = {
    "SGD, augmented": ["optim=sgd", *AUGMENTED],
    "Adam, augmented, 2 workers": [*ADAM, *AUGMENTED],
    "SGD, stopped early": ["optim=sgd", "model/pooling=attention", *EARLY],
    "Adam, stopped early, 2 workers": [*ADAM, *EARLY],
}
MOMENTS = [".cache/images/*/*.npy", "run/fold-0/last.ckpt", "run/fold-1/last.ckpt"]


class Whole(NamedTuple):
    """An undisturbed run."""

    words: list[str]
    folder: Path
    events: Counter[str]
    seconds: float


def undisturbed(born: Nursery, cohort: Path, name: str, folder: Path) -> Whole:
    words = [*RUN, f"data.root={cohort}", *CONFIGURATIONS[name]]
    outcome = born.run(Trial(words, str(folder)))
    assert outcome.code == 0, (folder / "output.txt").read_text()
    for fold in (0, 1) if "early" in name else ():
        assert json.loads((folder / f"run/fold-{fold}/done.json").read_text())["epochs"] < 6
    return Whole(words, folder / "run", events(folder), outcome.seconds)


def events(folder: Path) -> Counter[str]:
    return Counter((folder / "events.txt").read_text().splitlines())


def content(run: Path) -> dict[str, bytes | str]:
    """Return what must be the same: every file but times, checkpoints and environment."""
    found: dict[str, bytes | str] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.name == "history.csv":
            found[name] = pd.read_csv(path, dtype=str).drop(columns="images_per_second").to_csv()
        elif path.name == "done.json":
            found[name] = json.dumps(json.loads(path.read_text()) | {"seconds": 0})
        elif path.suffix in (".csv", ".json", ".yaml") and path.name != "environment.json":
            found[name] = path.read_bytes()
    return found


def differences(run: Path, whole: Path) -> list[str]:
    one, other = content(run), content(whole)
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*.????????") if path.is_file()]


def drawn(draw: random.Random, whole: Whole, before: int, folder: Path) -> Trial:
    """Return a stop at a kind of event and one of its kind, or at a time.

    What was killed `before` has less left to do.
    """
    how = draw.choices(["KILL", "TERM", "INT", "MEMORY"], [6, 2, 2, 1])[0]
    if how != "MEMORY" and draw.random() < 0.25:
        after = draw.random() * whole.seconds / (1 + before)
        return Trial(whole.words, str(folder), how, after=after)
    kind = draw.choice(sorted(whole.events))
    event = (kind, draw.randrange(1 + whole.events[kind] // (1 + before)))
    return Trial(whole.words, str(folder), how, event)


def allowed_codes(trial: Trial) -> set[int]:
    allowed = {0, CODES.get(trial.how, 0)}
    if trial.after is not None:  # before the handlers are set, and when all is done
        allowed.add(-signal.Signals[f"SIG{trial.how}"])
    if trial.how == "MEMORY":  # native code that does not check an allocation
        allowed |= {-signal.SIGSEGV, -signal.SIGABRT}
    return allowed


def killed_and_resumed(
    number: int, born: Nursery, wholes: dict[str, Whole], folder: Path
) -> tuple[Counter[str], list[str]]:
    """Return how often each signal ended the run of this number, and what was wrong at its end."""
    draw = random.Random(f"{SEED} {number}")
    name = draw.choice(list(wholes))
    whole, trials, ends, epochs, problems = wholes[name], [], Counter(), 0, []
    folder.mkdir()
    for kill in range(KILLS + 1):
        last = kill == KILLS
        trial = Trial(whole.words, str(folder)) if last else drawn(draw, whole, kill, folder)
        outcome = born.run(trial)
        epochs += events(folder)["epoch"]
        trials.append(trial)
        if outcome.code:
            ends[trial.how] += 1
        if outcome.code not in allowed_codes(trial):
            problems.append(f"exit code {outcome.code}: {(folder / 'output.txt').read_text()}")
    if different := differences(folder / "run", whole.folder):
        problems.append(f"other bytes in {different}")
    if epochs > whole.events["epoch"] + ends.total():
        problems.append(f"{epochs} epochs started, {whole.events['epoch']} in the undisturbed run")
    if left := leftovers(folder):
        problems.append(f"left: {left}")
    return ends, [f"seed {SEED}, run {number}, {name}, {trials}: {each}" for each in problems]


@pytest.mark.timeout(3000)
@pytest.mark.promise(
    "`kill -9`, SIGTERM, SIGINT or out of memory at moments drawn by a seed: before, within and "
    "after any write, in any stage, or by time; three times a run; SGD and Adam, 0 and 2 "
    "loader workers, augmentation, instance sampling, inner validation, early stopping",
    "the same command ends in the same bytes, a kill costs one epoch at most, and no temporary "
    "file is left",
)
@pytest.mark.parametrize(("kills", "names"), [
    (3, list(CONFIGURATIONS)[1:2]),
    pytest.param(200, list(CONFIGURATIONS), marks=pytest.mark.slow),
], ids=["few", "many"])  # fmt: skip
def test_the_same_command_ends_in_the_same_bytes(
    born, cohort, tmp_path, tmp_path_factory, record_property, kills, names
):
    wholes = {
        name: undisturbed(born, cohort, name, tmp_path_factory.mktemp("whole")) for name in names
    }
    numbers, ends, problems = iter(range(10 * kills)), Counter(), []

    def serve(one: Nursery) -> None:
        while ends.total() < kills:
            number = next(numbers)
            ended, wrong = killed_and_resumed(number, one, wholes, tmp_path / str(number))
            ends.update(ended)
            problems.extend(wrong)

    if kills < 10:
        serve(born)
    else:
        with nursery() as other, ThreadPoolExecutor(2) as pool:
            list(pool.map(serve, [born, other]))
    record_property("tried", ends.total())
    print(ends)
    assert not problems, "\n".join(problems)


@pytest.mark.slow
@pytest.mark.promise(
    "`kill -9` of plain `python train.py` as it decodes images, in its first fold, in its second",
    "the same command ends in the same bytes",
)
def test_plain_processes_resume_too(born, cohort, tmp_path, tmp_path_factory, record_property):
    name = "Adam, augmented, 2 workers"
    whole = undisturbed(born, cohort, name, tmp_path_factory.mktemp("whole"))
    for moment in MOMENTS:
        process = start(str(ROOT / "train.py"), *whole.words, cwd=tmp_path)
        try:
            wait_until(lambda moment=moment: list(tmp_path.glob(moment)))
            process.kill()
        finally:
            end(process)
        assert process.returncode == -9
    last = start(str(ROOT / "train.py"), *whole.words, cwd=tmp_path)
    printed = last.communicate()[0]
    assert last.returncode == 0
    assert re.search(r"fold 1: resuming after epoch \d of 3", printed)
    assert differences(tmp_path / "run", whole.folder) == []
    assert leftovers(tmp_path) == []
    record_property("tried", len(MOMENTS))
