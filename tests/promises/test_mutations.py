"""Damaged tables and folders

A case is one seed: to see it again, `replay(137, ...)` in a debugger.
"""

import csv
import io
import shutil
import signal
from contextlib import contextmanager
from datetime import datetime

import pytest

from lymphoml.audit.run import audit
from lymphoml.cli.config import data_config
from lymphoml.core.errors import InputError
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import load_cohort
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.folds import make_folds
from lymphoml.data.image_store import read_images
from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.mutations import MUTATIONS, TABLE, mutate
from tests.promises.processes import ROOT, python

HANG = 5  # seconds
COLUMNS = {"LABEL": "label", "GENDER": "sex", "DOB": "age", "LYMPH_COUNT": "lymphocyte_count"}
EVERY = len(MUTATIONS)  # seeds, for each way once


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The cohort before it is damaged, and what is read from it."""
    folder = tmp_path_factory.mktemp("sound") / "cohort"
    synthesize(folder, patients=15, test_patients=2, images=(2, 4), size=32, seed=0)
    (folder / "clinical_annotation.csv").unlink()
    data = settings(folder, folder.parent / "cache")
    return folder, read(data)


def settings(cohort, cache):
    return data_config("synthetic", {"root": str(cohort), "cache": str(cache), "folds": 2})


def read(data):
    """Do all that a job does with a cohort before its first step; return values by patient."""
    cohort = load_cohort(data)
    store, _ = read_images(cohort.images, Preprocessing.of(data), data.cache)
    labelled = cohort.labelled
    make_folds(labelled.table, data.folds, 1, seed=0)
    encoder = ClinicalEncoder.fit(labelled.table, data.columns, data.clinical, True, "error")
    assert len(encoder.transform(labelled.table)) == len(labelled.table)
    values = {}
    for patient, row in labelled.table.iterrows():
        assert store.bag(patient).shape[0] == len(cohort.images[patient])
        values[patient] = {name: row[column] for name, column in COLUMNS.items()}
        values[patient]["count"] = len(cohort.images[patient])
    return values


@contextmanager
def in_time():
    def hangs(*_):
        raise AssertionError(f"hangs for more than {5 * HANG} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, 5 * HANG)  # a busy machine may be five times slower
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def meaning(column, cell):
    """Return the value of a cell, read by other means than lymphoml's."""
    cell = cell.strip()
    if column == "LABEL":
        return {"1": 1, "0": 0}[cell]
    if column == "GENDER":
        return cell.upper()
    if column == "LYMPH_COUNT":
        return float(cell)
    form = "%m/%d/%Y" if "/" in cell else "%d-%m-%Y"
    return (datetime(2020, 1, 1) - datetime.strptime(cell, form)).days / 365.25


def naive(cohort):
    """Return the damaged table's cells: {(patient, column): cell}."""
    text = (cohort / TABLE).read_bytes().decode("utf-8-sig")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return {(row["ID"].strip(), name): row[name] or "" for row in rows for name in COLUMNS}


def changes(before, after):
    return {(patient, name): value
            for patient, values in after.items() for name, value in values.items()
            if patient not in before or before[patient][name] != value}  # fmt: skip


def check_refusal(error):
    assert error.problems
    for problem in error.problems:
        assert problem
        assert problem.isprintable(), repr(problem)
        assert "Traceback" not in problem


def replay(seed, sound, tmp_path):
    """Return whether the cohort that the seed damages is accepted; then check its values."""
    cohort, before = sound
    spoiled = tmp_path / str(seed)
    shutil.copytree(cohort, spoiled)
    name, written = mutate(spoiled, seed)
    data = settings(spoiled, cohort.parent / "cache")
    try:
        with in_time():
            after = read(data)
    except InputError as error:
        check_refusal(error)
        return False
    except BaseException as error:
        raise AssertionError(f"seed {seed}, {name}: {type(error).__name__}: {error}") from error
    changed = changes(before, after)
    if written is None:
        cells = naive(spoiled)
        assert len(changed) <= 1, f"seed {seed}, {name}: {changed} changed"
        written = {key: cells[key] for key in changed if key in cells}
    for key, value in changed.items():
        assert key in written, f"seed {seed}, {name}: {key} became {value!r}"
        if key[1] != "count":
            assert meaning(key[1], written[key]) == value, f"seed {seed}, {name}: {key}"
    return True


SIZES = [EVERY, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(3000)])]


@pytest.mark.promise(
    "a random mutation of a cohort's table or folders",
    "read, or lines that say what is wrong; no other label, age, sex or count",
)
@pytest.mark.parametrize("count", SIZES)
def test_mutations_are_read_right_or_refused(count, sound, tmp_path, record_property):
    accepted = 0
    for seed in range(count):
        accepted += replay(seed, sound, tmp_path)
        shutil.rmtree(tmp_path / str(seed))
    assert 0.1 * count < accepted < 0.9 * count  # else it would prove little
    record_property("tried", count)


@pytest.mark.promise(
    "such a mutation, under the audit", "findings, whatever is wrong with the cohort"
)
@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_the_audit_survives_every_mutation(step, sound, tmp_path, record_property):
    seeds = range(1000, 1000 + (EVERY if step > 1 else 10 * EVERY), step)
    for seed in seeds:
        spoiled = tmp_path / str(seed)
        shutil.copytree(sound[0], spoiled)
        name, _ = mutate(spoiled, seed)
        try:
            with in_time():
                found = audit(settings(spoiled, tmp_path / "cache"))
        except BaseException as error:
            raise AssertionError(f"seed {seed}, {name}: {error!r}") from error
        assert all(each["what"].isprintable() for each in found["findings"]), f"seed {seed}"
        shutil.rmtree(spoiled)
    record_property("tried", len(seeds))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.promise(
    "such a mutation, through `train.py`", "exit code 0, or 2 and only lines of error"
)
def test_mutations_through_the_command_line(sound, tmp_path, record_property):
    words = ["data=synthetic", "model/fusion=clinical", "trainer.max_epochs=1", "data.folds=2",
             "trainer.num_threads=1", "trainer.enable_progress_bar=false"]  # fmt: skip
    seeds = range(2000, 2000 + 7 * 20, 7)
    for seed in seeds:
        spoiled = tmp_path / str(seed)
        shutil.copytree(sound[0], spoiled)
        name, _ = mutate(spoiled, seed)
        places = [f"data.root={spoiled}", f"name=m{seed}", "logger=none"]
        done = python(ROOT / "train.py", *words, *places, cwd=tmp_path)
        assert done.returncode in (0, 2), f"seed {seed}, {name}: {done.stderr}"
        lines = done.stderr.splitlines()
        if done.returncode == 2:
            assert lines, f"seed {seed}"
            assert all(line.startswith("error: ") for line in lines), f"seed {seed}: {lines}"
            written = (tmp_path / "runs").rglob("*")  # Hydra makes the folder, empty
            assert not [path for path in written if path.is_file() and f"m{seed}" in path.parts]
        assert all(line.isprintable() for line in lines), f"seed {seed}"
    record_property("tried", len(seeds))


def test_a_changed_value_would_be_noticed(sound):
    """Test the check itself: another patient's label fails it."""
    values = {patient: dict(row) for patient, row in sound[1].items()}
    patient = next(iter(values))
    values[patient]["LABEL"] = 1 - values[patient]["LABEL"]
    assert changes(sound[1], values) == {(patient, "LABEL"): values[patient]["LABEL"]}
