"""Damaged tables and folders"""

import csv
import io
import os
import random
import shutil
from datetime import datetime
from pathlib import Path

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
from tests.promises.jobs import ROOT, TABLE, TINY, python

Rows, Images = list[list[str]], list[Path]

COLUMNS = {"LABEL": "label", "GENDER": "sex", "DOB": "age", "LYMPH_COUNT": "lymphocyte_count"}
ODD = ["", " ", "nan", "NA", "inf", "1e999", "1e-400", "-1", "0", "1", "2", "007", "9" * 400,
       "1_000", "1,5", "1.5", "１", "½", "=1+1", "-x", "1\r", "\x00", "\x1b[31m", "../x", "P1 ",
       "e\u0301", "\u202e1", "\ud83d", "01/02/1950", "1-2-1950", "31/12/1950", "30-02-1950",
       "1950-01-02", "1/2/50", "１/2/1950", "12-12-9999", "F", "f", "X", '"', "'", "\ufeff",
       "a" * 5000]  # fmt: skip
NAMES = ["=1+1.jpg", "\x1b[2J.jpg", "a\nb.jpg", "é.jpg", "e\u0301.jpg", ".jpg", "x" * 240 + ".jpg",
         "x.JPG", "x.png", " .jpg", "a,b.jpg", b"\xff.jpg"]  # fmt: skip
PIECES = [b'"', b"\x00", b"\r", b"\n", b",", b";", b"\t", b"\xff", b"\xef\xbb\xbf", b"\\", b"'"]


def damage_bytes(content: bytearray, chance: random.Random) -> None:
    """Flip a bit, put bytes in, or cut the end off."""
    place, way = chance.randrange(len(content)), chance.randrange(3)
    if way == 0:
        content[place] ^= 1 << chance.randrange(8)
    elif way == 1:
        content[place:place] = chance.choice(PIECES) * chance.choice([1, 1, 1, 3, 200_000])
    else:
        del content[place:]


def other_encoding(content: bytearray, chance: random.Random) -> None:
    encoding = chance.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037", "latin-1"])
    content[:] = content.decode().encode(encoding)


def other_dialect(content: bytearray, chance: random.Random) -> None:
    """Write the same table as other programs do."""
    quote = chance.choice(["", '"'])
    comma, end = chance.choice(",;\t| "), chance.choice(["\n", "\r\n", "\r", "\n\n", "\u2028"])
    lines = [comma.join(f"{quote}{cell}{quote}" for cell in line.split(","))
             for line in content.decode().splitlines()]  # fmt: skip
    content[:] = "".join(line + end for line in lines).encode()


def odd_cell(rows: Rows, chance: random.Random) -> None:
    chance.choice(rows[1:])[chance.randrange(len(rows[0]))] = chance.choice(ODD)


def swap_cells(rows: Rows, chance: random.Random) -> None:
    """Swap two rows' cells of one column: both are valid there."""
    column, (one, other) = chance.randrange(len(rows[0])), chance.sample(rows[1:], 2)
    one[column], other[column] = other[column], one[column]


def other_rows(rows: Rows, chance: random.Random) -> None:
    """Shuffle the rows, drop one, or write one twice."""
    rest = rows[1:]
    one, shuffled = chance.choice(rest), chance.sample(rest, len(rest))
    rows[1:] = chance.choice([shuffled, [*shuffled, one], [row for row in rest if row is not one]])


def other_columns(rows: Rows, chance: random.Random) -> None:
    """Shuffle the columns, drop one, or write one twice."""
    order = [*range(len(rows[0]))]
    column = chance.choice(order)
    order = chance.choice([chance.sample(order, len(order)), [*order, column],
                           [each for each in order if each != column]])  # fmt: skip
    rows[:] = [[row[each] for each in order] for row in rows]


def shift_header(rows: Rows, chance: random.Random) -> None:
    names = rows[0]
    rows[0] = chance.choice([
        names[1:] + names[:1], [each.lower() for each in names], ["", *names],
        [f" {each} " for each in names], names[:-1], [],
    ])  # fmt: skip


def damage_image(images: Images, chance: random.Random) -> None:
    """Damage an image, which may remain an image of other pixels."""
    image = chance.choice(images)
    content = bytearray(image.read_bytes())
    for _ in range(chance.choice([1, 5, 100])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    image.write_bytes(content[: chance.choice([len(content), len(content) // 2, 0, 10])])


def rename(images: Images, chance: random.Random) -> None:
    """Rename an image or a patient's folder."""
    image = chance.choice(images)
    old = chance.choice([image, image.parent])
    names = [*NAMES, old.name.lower(), f"{old.name} ", f".{old.name}"]
    os.rename(old, os.path.join(os.fsencode(old.parent), os.fsencode(chance.choice(names))))


def remove_images(images: Images, chance: random.Random) -> None:
    """Remove an image, or all of a patient."""
    one = chance.choice(images)
    for image in chance.choice([[one], list(one.parent.iterdir())]):
        image.unlink()


OF_BYTES = [damage_bytes, damage_bytes, other_encoding, other_dialect]
OF_ROWS = [odd_cell, swap_cells, odd_cell, other_rows, other_rows, other_columns, other_columns,
           shift_header]  # fmt: skip
OF_IMAGES = [damage_image, rename, rename, remove_images]
EVERY = len(OF_BYTES) + len(OF_ROWS) + len(OF_IMAGES)  # seeds, for each way once


def mutate(cohort: Path, seed: int) -> str:
    """Damage the cohort in place; return the way's name."""
    mutation = [*OF_BYTES, *OF_ROWS, *OF_IMAGES][seed % EVERY]
    chance, content = random.Random(seed), bytearray((cohort / TABLE).read_bytes())
    if mutation in OF_IMAGES:
        mutation(sorted((cohort / "trainset").rglob("*.jpg")), chance)
    elif mutation in OF_BYTES:
        mutation(content, chance)
    else:
        rows = [line.split(",") for line in content.decode().splitlines()]
        mutation(rows, chance)
        content = "".join(",".join(row) + "\n" for row in rows).encode("utf-8", "surrogatepass")
    (cohort / TABLE).write_bytes(content)
    return mutation.__name__


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The cohort before it is damaged, and what is read from it."""
    folder = tmp_path_factory.mktemp("sound") / "cohort"
    synthesize(folder, patients=15, test_patients=2, images=(2, 4), size=32, seed=0)
    (folder / "clinical_annotation.csv").unlink()
    return folder, read(settings(folder, folder.parent / "cache"))


@pytest.fixture
def damaged(sound, tmp_path):
    """Copies the cohort, damages the copy by a seed, and returns it with the damage's name."""

    def damage(seed):
        copy = shutil.copytree(sound[0], tmp_path / "damaged" / str(seed))
        return copy, f"seed {seed}, {mutate(copy, seed)}"

    return damage


def settings(cohort, cache):
    return data_config("synthetic", {"root": str(cohort), "cache": str(cache), "folds": 2})


def read(data):
    """Do all that a job does with a cohort before its first step; return values by patient."""
    cohort = load_cohort(data)
    store, _ = read_images(cohort.images, Preprocessing.of(data), data.cache)
    table = cohort.labelled.table
    make_folds(table, data.folds, 1, seed=0)
    encoder = ClinicalEncoder.fit(table, data.columns, data.clinical, True, "error")
    assert len(encoder.transform(table)) == len(table)
    values = {}
    for patient, row in table.iterrows():
        values[patient] = {name: row[column] for name, column in COLUMNS.items()}
        values[patient]["images"] = len(cohort.images[patient])
        assert store.bag(patient).shape[0] == len(cohort.images[patient])
    return values


def meaning(column, cell):
    """Return the value of a cell, read by other means than lymphoml's."""
    cell = cell.strip()
    if column == "DOB":
        form = "%m/%d/%Y" if "/" in cell else "%d-%m-%Y"
        return (datetime(2020, 1, 1) - datetime.strptime(cell, form)).days / 365.25
    return {"LABEL": int, "GENDER": str.upper, "LYMPH_COUNT": float}[column](cell)


def cells(cohort):
    """Return the cells of a patient as a plain reader reads them, {} if it cannot."""
    try:
        text = (cohort / TABLE).read_bytes().decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        return {row["ID"].strip(): {name: row[name] or "" for name in COLUMNS} for row in rows}
    except (ValueError, csv.Error, KeyError, AttributeError):
        return {}


def replay(spoiled, name, before, cache):
    """Return whether a damaged cohort is accepted; then each value is that of the table."""
    try:
        after, problems = read(settings(spoiled, cache)), None
    except InputError as error:
        after, problems = {}, error.problems
    if problems is not None:
        assert problems
        assert all(each.isprintable() and "Traceback" not in each for each in problems)
        return False
    known = cells(spoiled)
    for patient, values in after.items():
        paths = (spoiled / "trainset" / patient).iterdir()
        files = [path.suffix for path in paths if not path.name.startswith(".")]
        assert values.pop("images") in (len(files), files.count(".jpg")), name
        if patient in known:
            expected = {column: meaning(column, cell) for column, cell in known[patient].items()}
        else:
            expected = {column: before[patient][column] for column in COLUMNS}
        assert values == expected, f"{name}: {patient}"
    return True


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("count", [EVERY, pytest.param(20 * EVERY, marks=pytest.mark.slow)])
def test_mutations_are_read_right_or_refused(count, sound, damaged, tmp_path):
    """a random mutation of a cohort's table or folders, which is read or audited → read, or lines
    that say what is wrong, no other label, age, sex or count; findings, whatever is wrong"""
    accepted = 0
    for seed in range(count):
        spoiled, name = damaged(seed)
        accepted += replay(spoiled, name, sound[1], sound[0].parent / "cache")
        if seed % 5 == 0:
            findings = audit(settings(spoiled, tmp_path / "cache"))["findings"]
            assert all(each["what"].isprintable() for each in findings), name
        shutil.rmtree(tmp_path / "damaged")
    assert 0.1 * count < accepted < 0.9 * count  # else it would prove little


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_mutations_through_the_command_line(damaged, tmp_path):
    """such a mutation, through `train.py` → exit code 0, or 2 and only lines of error"""
    words = [*TINY, "model/fusion=clinical", "trainer.max_epochs=1"]
    for seed in range(2000, 2000 + EVERY):
        spoiled, name = damaged(seed)
        places = [f"data.root={spoiled}", f"name=m{seed}"]
        done = python(ROOT / "train.py", *words, *places, cwd=tmp_path)
        lines = done.stderr.splitlines()
        assert all(line.isprintable() for line in lines), name
        if done.returncode:
            assert done.returncode == 2, f"{name}: {lines}"
            assert lines, name
            assert all(line.startswith("error: ") for line in lines), f"{name}: {lines}"
            written = (tmp_path / "runs").rglob("*")  # Hydra makes the folder, empty
            assert not [path for path in written if path.is_file() and f"m{seed}" in path.parts]
