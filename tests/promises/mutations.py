"""Seeded damage to a tiny cohort, as by spreadsheets, copies and attackers.

A mutation returns which (patient, column) it wrote, and what; every other cell must be read as
before, or the cohort refused.
"""

import functools
import os
import random
from collections.abc import Callable
from pathlib import Path

TABLE = Path("trainset", "trainset_true.csv")
ODD = ["", " ", "nan", "NA", "null", "inf", "-inf", "1e999", "1e-400", "-1", "0", "1", "2", "007",
       "9" * 400, "0x10", "1_000", "1,5", "1.5", "１", "٣", "½", "true", "=1+1", "@x", "+1", "-x",
       "\t1", "1\r", "\x00", "\x1b[31m", "../x", "P1 ", "p1", "é", "e\u0301", "\u202e1", "\ud83d",
       "01/02/1950", "1-2-1950", "31/12/1950", "30-02-1950", "1950-01-02", "1/2/50", "１/2/1950",
       "12-12-9999", "F", "f", "X", "<script>", '"', "'", ";", "|", "#", "%", "`", "{}", "${lr}",
       "\ufeff", "\u200b", "a" * 5000]  # fmt: skip

Written = dict[tuple[str, str], str]  # (patient, column): the cell that a mutation wrote
Rows = list[list[str]]
Mutation = Callable[[Path, random.Random], Written | None]  # None: any one cell may have changed


def mutate(cohort: Path, seed: int) -> tuple[str, Written | None]:
    """Damage the cohort in place, one way a seed; return the way's name, and what it wrote."""
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    return mutation.__name__, mutation(cohort, random.Random(seed))


def _of_rows(change: Callable[[Rows, random.Random], Written | None]) -> Mutation:
    """Make a mutation of what changes a table's rows in place, the header first."""

    @functools.wraps(change)
    def mutation(cohort: Path, chance: random.Random) -> Written | None:
        rows = _rows(cohort)
        written = change(rows, chance)
        _write(cohort, rows)
        return written

    return mutation


def _rows(cohort: Path) -> Rows:
    return [line.split(",") for line in (cohort / TABLE).read_text().splitlines()]


def _write(cohort: Path, rows: Rows, comma: str = ",", end: str = "\n") -> None:
    text = end.join(comma.join(row) for row in rows) + end
    (cohort / TABLE).write_bytes(text.encode("utf-8", "surrogatepass"))


def flip_byte(cohort: Path, chance: random.Random) -> None:
    content = bytearray((cohort / TABLE).read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (cohort / TABLE).write_bytes(content)


def insert_bytes(cohort: Path, chance: random.Random) -> None:
    content = bytearray((cohort / TABLE).read_bytes())
    place = chance.randrange(len(content))
    content[place:place] = chance.choice(
        [b'"', b"\x00", b"\r", b"\n", b",", b";", b"\t", b"\xff", b"\xef\xbb\xbf", b"\\", b"'"]
    ) * chance.choice([1, 1, 1, 3, 200_000])
    (cohort / TABLE).write_bytes(content)


@_of_rows
def odd_cell(rows: Rows, chance: random.Random) -> Written:
    row, column = chance.randrange(1, len(rows)), chance.randrange(len(rows[0]))
    patient, name = rows[row][rows[0].index("ID")], rows[0][column]
    rows[row][column] = chance.choice(ODD)
    if name == "ID":
        patient = rows[row][column].strip()
    return {(patient, name): rows[row][column]}


@_of_rows
def swap_cells(rows: Rows, chance: random.Random) -> Written:
    """Swap two rows' cells of one column, so that each is a cell that its column may have."""
    one, column = chance.randrange(1, len(rows)), chance.randrange(len(rows[0]))
    other = chance.randrange(1, len(rows))
    rows[one][column], rows[other][column] = rows[other][column], rows[one][column]
    names = rows[0]
    changed = names if names[column] == "ID" else [names[column]]
    return {(rows[r][names.index("ID")], name): rows[r][names.index(name)]
            for r in (one, other) for name in changed}  # fmt: skip


@_of_rows
def swap_columns_of_a_row(rows: Rows, chance: random.Random) -> Written:
    row = chance.randrange(1, len(rows))
    a, b = chance.sample(range(len(rows[0])), 2)
    rows[row][a], rows[row][b] = rows[row][b], rows[row][a]
    patient = rows[row][rows[0].index("ID")]
    return {(patient, rows[0][each]): rows[row][each] for each in (a, b)}


@_of_rows
def drop_row(rows: Rows, chance: random.Random) -> Written:
    del rows[chance.randrange(1, len(rows))]
    return {}


@_of_rows
def duplicate_row(rows: Rows, chance: random.Random) -> Written:
    rows.insert(chance.randrange(1, len(rows)), list(rows[chance.randrange(1, len(rows))]))
    return {}


@_of_rows
def shuffle_rows(rows: Rows, chance: random.Random) -> Written:
    rows[1:] = chance.sample(rows[1:], len(rows) - 1)
    return {}


@_of_rows
def shuffle_columns(rows: Rows, chance: random.Random) -> Written:
    order = chance.sample(range(len(rows[0])), len(rows[0]))
    rows[:] = [[row[each] for each in order] for row in rows]
    return {}


@_of_rows
def drop_column(rows: Rows, chance: random.Random) -> Written:
    column = chance.randrange(len(rows[0]))
    for row in rows:
        del row[column]
    return {}


@_of_rows
def duplicate_column(rows: Rows, chance: random.Random) -> Written:
    column = chance.randrange(len(rows[0]))
    for row in rows:
        row.append(row[column])
    return {}


@_of_rows
def shift_header(rows: Rows, chance: random.Random) -> Written | None:
    names = rows[0]
    shifted = names[1:] + names[:1]
    rows[0] = chance.choice(
        [shifted, [each.lower() for each in names], ["", *names], [f" {each} " for each in names],
         names[:-1], []]
    )  # fmt: skip
    return None if rows[0] == shifted else {}


def other_dialect(cohort: Path, chance: random.Random) -> Written:
    """Write the same table as other programs do."""
    rows = _rows(cohort)
    if chance.random() < 0.5:
        rows = [[f'"{cell}"' for cell in row] for row in rows]
    _write(cohort, rows, chance.choice([",", ";", "\t", "|", " "]),
           chance.choice(["\n", "\r\n", "\r", "\n\n", "\u2028"]))  # fmt: skip
    return {}


def other_encoding(cohort: Path, chance: random.Random) -> Written:
    text = (cohort / TABLE).read_text()
    encoding = chance.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037", "latin-1"])
    (cohort / TABLE).write_bytes(text.encode(encoding))
    return {}


def truncate_table(cohort: Path, chance: random.Random) -> None:
    content = (cohort / TABLE).read_bytes()
    (cohort / TABLE).write_bytes(content[: chance.randrange(len(content))])


def damage_image(cohort: Path, chance: random.Random) -> None:
    """Damage an image, which may remain an image of other pixels."""
    image = chance.choice(_images(cohort))
    content = bytearray(image.read_bytes())
    for _ in range(chance.choice([1, 5, 100])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    image.write_bytes(content[: chance.choice([len(content), len(content) // 2, 0, 10])])


def rename_image(cohort: Path, chance: random.Random) -> Written:
    image = chance.choice(_images(cohort))
    name = chance.choice(
        ["=1+1.jpg", "-x.jpg", "\x1b[2J.jpg", "a\nb.jpg", "é.jpg", "e\u0301.jpg", ".jpg",
         "x" * 240 + ".jpg", "x.JPG", "x.png", " .jpg", "<img src=x>.jpg", "CON.jpg", "a,b.jpg",
         '".jpg']
    )  # fmt: skip
    place = os.fsencode(image.parent / name)
    if chance.random() < 0.1:
        place = os.fsencode(image.parent) + b"/\xff.jpg"
    os.rename(os.fsencode(image), place)
    return {(image.parent.name, "count"): "?"}


def rename_folder(cohort: Path, chance: random.Random) -> Written:
    folder = chance.choice(_images(cohort)).parent
    name = chance.choice([folder.name.lower(), f"{folder.name} ", f".{folder.name}", "=x", "\x1b",
                          f"{folder.name}é", "-rf", "x" * 200])  # fmt: skip
    folder.rename(folder.parent / name)
    return {}


def swap_folder(cohort: Path, chance: random.Random) -> Written:
    """Swap two patients' folders, which is undetectable: each has the other's images."""
    one, other = chance.sample(sorted({image.parent for image in _images(cohort)}), 2)
    spare = one.parent / "spare"
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    return {(each.name, "count"): "?" for each in (one, other)}


def empty_folder(cohort: Path, chance: random.Random) -> Written:
    folder = chance.choice(_images(cohort)).parent
    for image in folder.iterdir():
        image.unlink()
    return {}


def remove_image(cohort: Path, chance: random.Random) -> Written:
    image = chance.choice(_images(cohort))
    image.unlink()
    return {(image.parent.name, "count"): "?"}


def _images(cohort: Path) -> list[Path]:
    return sorted((cohort / "trainset").rglob("*.jpg"))


MUTATIONS: list[Mutation] = [
    flip_byte, odd_cell, insert_bytes, odd_cell, swap_cells, swap_columns_of_a_row, drop_row,
    duplicate_row, shuffle_rows, shuffle_columns, drop_column, duplicate_column, shift_header,
    other_dialect, other_encoding, truncate_table, damage_image, rename_image, rename_folder,
    swap_folder, empty_folder, remove_image,
]  # fmt: skip
