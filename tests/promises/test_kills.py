"""Exact resume: killed at any moment, the same command ends in the same bytes"""

import json
import random
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.promises.jobs import CLINICAL, ENCODER, ROOT, TINY, end, outcome, python, wait_until
from tests.promises.trials import Trial, events

SEED = 5
KILLS = 3  # of one run, one after the other
CODES = {"KILL": -9, "TERM": 143, "INT": 130, "MEMORY": 1}
RUN = [*TINY, "hydra.run.dir=run"]
IMAGES = [*ENCODER, "data.batch_size=3"]
AUGMENTED = [f"data.augment.{each}" for each in (
    "flip=true", "rotate=any", "color_jitter=0.1", "stain_jitter=0.1", "scale=0.1")] + [
    "data.train_bag_size=2"]  # fmt: skip
EARLY = ["data.inner_val_fraction=0.3", "trainer.patience=1", "trainer.max_epochs=6", "lr=5"]
ADAM = ["optim=adam", "data.num_workers=2"]
AVERAGED = [*IMAGES, "model.encoder.norm=group"]
CONFIGURATIONS = {
    "clinical": [*CLINICAL, "optim=adam", "trainer.max_epochs=2"],
    "SGD, augmented": [*IMAGES, "optim=sgd", *AUGMENTED, "data.device_cache=true"],
    "Adam, augmented, 2 workers": [*IMAGES, *ADAM, *AUGMENTED],
    "SGD, stopped early": [*IMAGES, "optim=sgd", "model/pooling=attention", *EARLY],
    "Adam, stopped early, 2 workers": [*IMAGES, *ADAM, *EARLY],
    "ema": [*AVERAGED, "weight_averaging=ema", "weight_averaging.decay=0.8", "optim=adam",
            "loss.label_smoothing=0.1", "data.inner_val_fraction=0.3", "data.augment.flip=true",
            "scheduler=cosine_with_warmup", "scheduler.warmup_epochs=1"],
    "additive": [*IMAGES, "optim=adam", "model/fusion=additive", "model.fusion.frozen=false",
                 "loss.pos_weight=balanced", "model/pooling=sigmoid_weighted_mean",
                 "model.instance_dropout=0.3", "model.encoder.norm=frozen"],
    "swa": [*AVERAGED, "weight_averaging=swa", "weight_averaging.start=0.4", "data.num_workers=1",
            "model.instance_dropout=0.3", "trainer.check_val_every_n_epoch=2"],
}  # fmt: skip


class Whole(NamedTuple):
    words: list[str]
    folder: Path
    events: Counter[str]
    seconds: float


def undisturbed(cohort: Path, name: str, folder: Path) -> Whole:
    words = [*RUN, f"data.root={cohort}", *CONFIGURATIONS[name]]
    ended = Trial(words, folder).run()
    assert ended.code == 0, (folder / "output.txt").read_text()
    for fold in (0, 1) if "early" in name else ():
        assert json.loads((folder / f"run/fold-{fold}/done.json").read_text())["epochs"] < 6
    return Whole(words, folder / "run", events(folder), ended.seconds)


def differences(folder: Path, whole: Path) -> list[str]:
    """Return what differs from the undisturbed run, and temporary files that are left."""
    one, other = outcome(folder / "run"), outcome(whole)
    left = [str(path) for path in folder.rglob(".*.????????") if path.is_file()]
    return left + sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def drawn(draw: random.Random, whole: Whole, before: int, folder: Path) -> Trial:
    """Return a stop at an event or a time; what was killed `before` has less left to do."""
    how = draw.choices(["KILL", "TERM", "INT", "MEMORY"], [6, 2, 2, 1])[0]
    if how != "MEMORY" and draw.random() < 0.25:
        return Trial(whole.words, folder, how, after=draw.random() * whole.seconds / (1 + before))
    kind = draw.choice(sorted(whole.events))
    event = (kind, draw.randrange(1 + whole.events[kind] // (1 + before)))
    return Trial(whole.words, folder, how, event)


def allowed_codes(trial: Trial) -> set[int]:
    allowed = {0, CODES.get(trial.how, 0)}
    if trial.after is not None:  # before the handlers are set, and when all is done
        allowed.add(-signal.Signals[f"SIG{trial.how}"])
    if trial.how == "MEMORY":  # native code that does not check an allocation
        allowed |= {-signal.SIGSEGV, -signal.SIGABRT}
    return allowed


def killed_and_resumed(number: int, whole: Whole, folder: Path) -> tuple[int, list[str]]:
    """Return how often the run of this number was ended, and what was wrong at its end."""
    draw = random.Random(f"{SEED} {number}")
    trials, ends, epochs, problems = [], 0, 0, []
    folder.mkdir()
    for kill in range(KILLS + 1):
        trials.append(drawn(draw, whole, kill, folder) if kill < KILLS else
                      Trial(whole.words, folder))  # fmt: skip
        code = trials[-1].run().code
        epochs += events(folder)["epoch"]
        ends += code != 0
        if code not in allowed_codes(trials[-1]):
            problems.append(f"exit code {code}: {(folder / 'output.txt').read_text()}")
    if epochs > whole.events["epoch"] + ends:
        problems.append(f"{epochs} epochs started, {whole.events['epoch']} in the undisturbed run")
    problems += differences(folder, whole.folder)
    return ends, [f"seed {SEED}, run {number}, {trials}: {each}" for each in problems]


@pytest.mark.timeout(3000)
@pytest.mark.parametrize(("kills", "names"), [
    (3, ["clinical"]),
    pytest.param(64, list(CONFIGURATIONS), marks=pytest.mark.slow),
], ids=["few", "many"])  # fmt: skip
def test_the_same_command_ends_in_the_same_bytes(cohort, tmp_path, tmp_path_factory, kills, names):
    """`kill -9`, SIGTERM, SIGINT or out of memory at moments drawn by a seed: before, within
    and after any write, in any stage, or by time; three times a run; SGD and Adam, 0 and 2 loader
    workers, images in the device's memory, augmentation, instance sampling, inner validation, early
    stopping, averaged weights (ema, swa), warm-up, label smoothing, instance dropout → the same
    command ends in the same bytes, a kill costs one epoch at most, and no temporary file is left"""
    wholes = [undisturbed(cohort, name, tmp_path_factory.mktemp("whole")) for name in names]
    numbers, ends, problems = iter(range(10 * kills)), [], []

    def serve(_):
        while sum(ends) < kills:
            number = next(numbers)
            whole = wholes[number % len(wholes)]
            ended, wrong = killed_and_resumed(number, whole, tmp_path / str(number))
            ends.append(ended)
            problems.extend(wrong)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(serve, range(1 if kills < 10 else 2)))
    assert not problems, "\n".join(problems)


def kill_when(process, folder: Path, written: str) -> None:
    """Kill a process once there are such files."""
    wait_until(lambda: list(folder.glob(written)))
    end(process)
    assert process.returncode == -9


@pytest.mark.slow
def test_plain_processes_resume_too(cohort, tmp_path, tmp_path_factory, started):
    """`kill -9` of plain `python train.py` as it decodes images, in its first fold, in its second →
    the same command ends in the same bytes"""
    whole = undisturbed(cohort, "Adam, augmented, 2 workers", tmp_path_factory.mktemp("whole"))
    for moment in (".cache/images/*/*.npy", "run/fold-0/last.ckpt", "run/fold-1/last.ckpt"):
        process = started(ROOT / "train.py", *whole.words, cwd=tmp_path)
        kill_when(process, tmp_path, moment)
    last = python(ROOT / "train.py", *whole.words, cwd=tmp_path)
    assert last.returncode == 0
    assert re.search(r"fold 1: resuming after epoch \d of 3", last.stdout)
    assert differences(tmp_path, whole.folder) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_killed_twice_is_compared_to_the_same_bytes(cohort, tmp_path, started):
    """`kill -9` of a sweep of two configurations, two folds and two epochs in its first folds, and
    again in its second → the same command trains what is missing, and `compare` writes the bytes of
    an undisturbed sweep: picture, folds, every two runs' differences"""
    words = [ROOT / "train.py", "-cd", ROOT / "sweeps", "-cn", "ablation_small", *TINY, *ENCODER,
             "data.crop=null", "data.resize=null", "trainer.max_epochs=2", f"data.root={cohort}",
             "hydra.sweeper.params.lr=1e-3", "hydra.sweeper.params.scheduler=none"]  # fmt: skip
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    for moment in ("*/fold-0/last.ckpt", "*/fold-1/last.ckpt"):
        kill_when(started(*words, cwd=killed), killed / "runs/ablation_small", moment)
    written = []
    for folder in (killed, whole):
        folder.mkdir(exist_ok=True)
        last = python(*words, cwd=folder, limit=400)
        assert last.returncode == 0, last.stderr
        compare = ["-m", "lymphoml", "compare", "runs=runs/ablation_small", "pairs=true"]
        done = python(*compare, cwd=folder)
        assert done.returncode == 0, done.stderr
        names = "ablation.png", "ablation_folds.csv", "comparison_pairs.csv", "comparison.json"
        written.append([(folder / "runs/ablation_small" / each).read_bytes() for each in names])
    assert written[0] == written[1]
