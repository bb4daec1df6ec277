"""Choices of training: averaged weights, warm-up, ensembles."""

import os
import random
from pathlib import Path

import pytest

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, configuration, refusal
from tests.promises.nursery import Trial, nursery
from tests.promises.test_kills import RUN, differences, events, leftovers
from tests.reports.fabricate import config, make_predictions, make_run

CHOICES = {
    "ema": ["weight_averaging=ema", "weight_averaging.decay=0.8", "model.encoder.norm=group",
            "optim=adam", "loss.label_smoothing=0.1", "data.inner_val_fraction=0.3",
            "scheduler=cosine_with_warmup", "scheduler.warmup_epochs=1", "data.augment.flip=true"],
    "swa": ["weight_averaging=swa", "weight_averaging.start=0.4", "model.encoder.norm=group",
            "data.num_workers=1", "model.instance_dropout=0.3",
            "trainer.check_val_every_n_epoch=2"],
}  # fmt: skip
# Kinds of events that averages are made, swapped, stored or read at.
MOMENTS = ["train", "validate", "epoch", "replace last.ckpt", "replaced last.ckpt", "predict"]


@pytest.fixture(scope="module")
def born():
    with nursery() as one:
        yield one


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.promise(
    "`kill -9` at drawn moments, twice a run, of runs that average weights (ema, swa), with "
    "smoothed labels, warm-up, instance dropout, an inner split",
    "the same command ends in the same bytes, averages included",
)
def test_averages_resume_exactly(born, cohort, tmp_path, record_property, name):
    words, draw = [*RUN, f"data.root={cohort}", *CHOICES[name]], random.Random(f"7 {name}")
    (tmp_path / "whole").mkdir()
    kills, tried = 20, 0
    assert born.run(Trial(words, str(tmp_path / "whole"))).code == 0
    known = events(tmp_path / "whole")
    while tried < kills:
        folder = tmp_path / str(tried)
        folder.mkdir()
        for _ in range(2):
            kind = draw.choice(MOMENTS)
            trial = Trial(words, str(folder), "KILL", (kind, draw.randrange(known[kind])))
            tried += born.run(trial).code == -9
        assert born.run(Trial(words, str(folder))).code == 0
        assert differences(folder / "run", tmp_path / "whole" / "run") == []
        assert leftovers(folder) == []
    record_property("tried", tried)


@pytest.mark.parametrize("words", [
    ["weight_averaging=ema", "weight_averaging.decay=1.5"],
    ["scheduler=cosine_with_warmup", "scheduler.warmup_epochs=3"],
])  # fmt: skip
@pytest.mark.promise(
    "a choice of training out of its range, or no epoch after the warm-up",
    "refused in a line, exit code 2, before a run folder is made",
)
def test_choices_out_of_range_are_refused(configured, tmp_path, words):
    with pytest.raises(InputError) as caught:
        cross_validate(configured(*CLINICAL, *words), tmp_path / "run")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "run").exists()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, *words) -> list[str]:
    """The lines of a refusal, and that nothing was written."""
    before = files(Path())
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert left.value.code == 2
    assert files(Path()) == before
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three runs of the same folds, one of others, one of other patients, one unfinished."""
    rows = make_predictions(30, folds=5, repeats=1, skill=2.0, seed=0)
    for seed in range(3):
        drawn = make_predictions(30, folds=5, repeats=1, skill=2.0, seed=seed)
        same = rows.assign(probability=drawn["probability"])
        make_run(tmp_path / "runs" / f"seed={seed}", config(seed=seed), predictions=same, epochs=1)
    make_run(tmp_path / "runs" / "folds", n=30, seed=9, epochs=1)
    fewer = rows[rows["patient"] != "Zebra7"]
    make_run(tmp_path / "runs" / "patients", predictions=fewer, epochs=1)
    make_run(tmp_path / "runs" / "unfinished", predictions=rows, epochs=1)
    (tmp_path / "runs" / "unfinished" / "fold-1" / "done.json").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


MEMBERS = "runs=[runs/seed=0,runs/seed=1,runs/seed=2]"


@pytest.mark.parametrize(("words", "message"), [
    (["runs=[runs/seed=0,runs/folds]", "out=e"], "runs/folds"),
    (["runs=[runs/seed=0,runs/patients]", "out=e"], "patient Zebra7"),
    (["runs=[runs/seed=0,runs/unfinished]", "out=e"], "done.json"),
    (["runs=[runs/seed=0]", "out=e"], "two or more"),
    (["runs=[runs/seed=0,runs/seed=1,runs/seed=0]", "out=e"], "two or more"),
    (["runs=[runs/seed=0,runs/nowhere]", "out=e"], "runs/nowhere"),
    ([MEMBERS, "out=runs/folds"], "out=runs/folds"),
    ([MEMBERS], "out=..."),
])  # fmt: skip
@pytest.mark.promise(
    "an ensemble of runs of other folds or patients, unfinished, given twice, or into a folder "
    "that holds something else",
    "refused in a line naming the run and what differs, exit code 2, nothing written",
)
def test_an_ensemble_of_what_does_not_fit_is_refused(runs, capsys, words, message):
    (line,) = refused(capsys, "ensemble", *words)
    assert message in line


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """Runs of two seeds in the same folds, and an ensemble of the two."""
    folder = tmp_path_factory.mktemp("seeds")
    given = ["data.folds_csv=first/folds.csv", "seed=1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, words in (("first", []), ("second", given)):
            words = [*CLINICAL, "trainer.max_epochs=1", *words]
            cross_validate(configuration(cohort, folder / "cache", *words), Path(name))
        main(["ensemble", "runs=[first,second]", "out=both"])
    return folder


@pytest.mark.promise(
    "another seed with `data.folds_csv` of the first one's run",
    "the same folds, other draws; the two make an ensemble",
)
def test_seeds_share_the_folds_of_a_file(trained):
    folds = {(trained / name / "folds.csv").read_bytes() for name in ("first", "second", "both")}
    assert len(folds) == 1
    one, other = ((trained / name / "predictions.csv").read_bytes() for name in ("first", "second"))
    assert one != other


@pytest.mark.promise(
    "train.py on an ensemble, which has no models of its own",
    "refused in a line, exit code 2, nothing written",
)
def test_an_ensemble_is_not_trained(configured, trained, capsys):
    before = files(trained / "both")
    code, lines = refusal(capsys, configured(*CLINICAL), trained / "both")
    assert code == 2
    assert any("ensemble was ['first', 'second']" in line for line in lines)
    after = files(trained / "both")
    assert {name: each for name, each in after.items() if not name.endswith(".lock")} == before


@pytest.mark.promise(
    "an ensemble that was interrupted at any of its files, or is made again",
    "it counts as unfinished until its last file; the same command ends in the same bytes",
)
def test_an_interrupted_ensemble_is_unfinished_and_made_again(runs, capsys, record_property):
    main(["ensemble", MEMBERS, "out=whole"])
    whole = {name.removeprefix("whole/"): content for name, content in files(Path("whole")).items()}
    moments = [*range(0, len(whole) - 1, 5), len(whole) - 1]
    for written in moments:
        out = Path(f"broken{written}")
        with pytest.MonkeyPatch.context() as patch:
            _fill_disk_after(patch, written)
            with pytest.raises(SystemExit) as left:
                main(["ensemble", MEMBERS, f"out={out}"])
        assert left.value.code == 1
        assert sum(path.is_file() for path in out.rglob("*")) == written
        (line,) = refused(capsys, "report", f"run={out}")
        assert "is not finished" in line or "is not a run" in line
        main(["ensemble", MEMBERS, f"out={out}"])
        again = {str(Path(name).relative_to(out)): content for name, content in files(out).items()}
        assert again == whole
    record_property("tried", len(moments))


def _fill_disk_after(patch: pytest.MonkeyPatch, files: int) -> None:
    """No file takes its place after so many."""
    replace, done = os.replace, []

    def full(source, target):
        if len(done) == files:
            raise OSError(28, "No space left on device")
        done.append(target)
        replace(source, target)

    patch.setattr(os, "replace", full)
