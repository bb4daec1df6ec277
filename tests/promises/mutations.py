"""Seeded damage to a tiny cohort: what a spreadsheet, a copy or an enemy does to tables and files.

A mutation may say which (patient, column) it wrote, and what; every other cell must be read as
before, or the cohort refused.
"""

import io
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image

TABLE = Path("trainset", "trainset_true.csv")
ODD = ["", " ", "nan", "NA", "null", "inf", "-inf", "1e999", "1e-400", "-1", "0", "1", "2", "007",
       "9" * 400, "0x10", "1_000", "1,5", "1.5", "１", "٣", "½", "true", "=1+1", "@x", "+1", "-x",
       "\t1", "1\r", "\x00", "\x1b[31m", "../x", "P1 ", "p1", "é", "e\u0301", "\u202e1", "\ud83d",
       "01/02/1950", "1-2-1950", "31/12/1950", "30-02-1950", "1950-01-02", "1/2/50", "１/2/1950",
       "12-12-9999", "F", "f", "X", "<script>", '"', "'", ";", "|", "#", "%", "`", "{}", "${lr}",
       "\ufeff", "\u200b", "a" * 5000]  # fmt: skip

Written = dict[tuple[str, str], str]  # (patient, column): the cell that a mutation wrote
Mutation = Callable[[Path, random.Random], Written | None]  # None: any cell may have been meant


def mutate(cohort: Path, seed: int) -> tuple[str, Written | None]:
    """Damage the cohort in place, one way a seed; the way's name, and what it wrote."""
    chance = random.Random(seed)
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    return mutation.__name__, mutation(cohort, chance)


def _rows(cohort: Path) -> list[list[str]]:
    return [line.split(",") for line in (cohort / TABLE).read_text().splitlines()]


def _write(cohort: Path, rows: list[list[str]], comma: str = ",", end: str = "\n") -> None:
    text = end.join(comma.join(row) for row in rows) + end
    (cohort / TABLE).write_bytes(text.encode("utf-8", "surrogatepass"))


def _cell(chance: random.Random, rows: list[list[str]]) -> tuple[int, int]:
    return chance.randrange(1, len(rows)), chance.randrange(len(rows[0]))


def flip_byte(cohort: Path, chance: random.Random) -> None:
    """Of the table; what was meant is told by what is read, so that any one cell may change."""
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


def odd_cell(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    row, column = _cell(chance, rows)
    patient, name = rows[row][rows[0].index("ID")], rows[0][column]
    rows[row][column] = chance.choice(ODD)
    if name == "ID":
        patient = rows[row][column].strip()
    _write(cohort, rows)
    return {(patient, name): rows[row][column]}


def swap_cells(cohort: Path, chance: random.Random) -> Written:
    """Of two rows in one column, so that each stays a cell that its column may hold."""
    rows = _rows(cohort)
    one, column = _cell(chance, rows)
    other = chance.randrange(1, len(rows))
    rows[one][column], rows[other][column] = rows[other][column], rows[one][column]
    _write(cohort, rows)
    names = rows[0]
    if names[column] == "ID":  # either patient has got the other's row
        return {(rows[r][names.index("ID")], n): rows[r][names.index(n)]
                for r in (one, other) for n in names}  # fmt: skip
    return {(rows[r][names.index("ID")], names[column]): rows[r][column] for r in (one, other)}


def swap_columns_of_a_row(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    row = chance.randrange(1, len(rows))
    a, b = chance.sample(range(len(rows[0])), 2)
    rows[row][a], rows[row][b] = rows[row][b], rows[row][a]
    _write(cohort, rows)
    patient = rows[row][rows[0].index("ID")]
    return {(patient, rows[0][each]): rows[row][each] for each in (a, b)}


def drop_row(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    del rows[chance.randrange(1, len(rows))]
    _write(cohort, rows)
    return {}


def duplicate_row(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    rows.insert(chance.randrange(1, len(rows)), list(rows[chance.randrange(1, len(rows))]))
    _write(cohort, rows)
    return {}


def shuffle_rows(cohort: Path, chance: random.Random) -> Written:
    head, *rows = _rows(cohort)
    chance.shuffle(rows)
    _write(cohort, [head, *rows])
    return {}


def shuffle_columns(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    order = list(range(len(rows[0])))
    chance.shuffle(order)
    _write(cohort, [[row[each] for each in order] for row in rows])
    return {}


def drop_column(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    column = chance.randrange(len(rows[0]))
    _write(cohort, [row[:column] + row[column + 1 :] for row in rows])
    return {}


def duplicate_column(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    column = chance.randrange(len(rows[0]))
    _write(cohort, [[*row, row[column]] for row in rows])
    return {}


def shift_header(cohort: Path, chance: random.Random) -> Written:
    rows = _rows(cohort)
    rows[0] = chance.choice(
        [rows[0][1:] + rows[0][:1], [each.lower() for each in rows[0]], ["", *rows[0]],
         [f" {each} " for each in rows[0]], rows[0][:-1], []]
    )  # fmt: skip
    shifted = rows[0] == _rows(cohort)[0][1:] + _rows(cohort)[0][:1]
    _write(cohort, rows)
    return None if shifted else {}  # type: ignore[return-value]


def other_dialect(cohort: Path, chance: random.Random) -> Written:
    """The same table, as other programs write it."""
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


def replace_table(cohort: Path, chance: random.Random) -> Written:
    table = cohort / TABLE
    table.unlink()
    _place(table, chance)
    return {}


def damage_image(cohort: Path, chance: random.Random) -> None:
    """Which may still be an image, of other pixels."""
    image = chance.choice(_images(cohort))
    content = bytearray(image.read_bytes())
    for _ in range(chance.choice([1, 5, 100])):
        content[chance.randrange(len(content))] = chance.randrange(256)
    image.write_bytes(content[: chance.choice([len(content), len(content) // 2, 0, 10])])


def replace_image(cohort: Path, chance: random.Random) -> Written:
    image = chance.choice(_images(cohort))
    patient = image.parent.name
    image.unlink()
    if chance.random() < 0.4:
        formats = ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PDF", "EPS"]
        mode = chance.choice(["RGB", "RGB", "L", "CMYK", "1", "I;16", "RGBA", "P"])
        content, size = io.BytesIO(), chance.choice([(32, 32), (32, 32), (1, 1), (31, 32)])
        try:
            Image.new(mode, size).save(content, chance.choice(formats))
        except (OSError, ValueError):
            content.write(b"x")
        image.write_bytes(content.getvalue())
    else:
        _place(image, chance)
    return {(patient, "count"): "?"}


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
    """Two patients' folders: nobody can tell, and both have the other's images."""
    one, other = chance.sample(sorted({image.parent for image in _images(cohort)}), 2)
    aside = one.parent / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    return {(each.name, "count"): "?" for each in (one, other)}


def replace_folder(cohort: Path, chance: random.Random) -> Written:
    folder = chance.choice(_images(cohort)).parent
    shutil.rmtree(folder)
    _place(folder, chance)
    return {(folder.name, "count"): "?"}


def empty_folder(cohort: Path, chance: random.Random) -> Written:
    folder = chance.choice(_images(cohort)).parent
    for image in folder.iterdir():
        image.unlink()
    return {}


def remove_image(cohort: Path, chance: random.Random) -> Written:
    image = chance.choice(_images(cohort))
    image.unlink()
    return {(image.parent.name, "count"): "?"}


def add_something(cohort: Path, chance: random.Random) -> Written:
    folder = chance.choice([cohort, cohort / "trainset", chance.choice(_images(cohort)).parent])
    name = chance.choice(["Thumbs.db", ".DS_Store", "._0.jpg", "P999", "x.jpg", "x.csv", "=x.jpg"])
    _place(folder / name, chance)
    return {(folder.name, "count"): "?"}


def _images(cohort: Path) -> list[Path]:
    return sorted((cohort / "trainset").rglob("*.jpg"))


def _place(path: Path, chance: random.Random) -> None:
    """Something else than what is expected at `path`."""
    kind = chance.choice(["empty", "text", "pipe", "folder", "loop", "outside", "broken", "zero",
                          "nothing", "binary", "neighbour"])  # fmt: skip
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("ID,LABEL\n" * 3)
    elif kind == "binary":
        path.write_bytes(chance.randbytes(2000))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "nothing":
        path.symlink_to({"loop": path, "outside": "/etc/hostname", "broken": "/nowhere",
                         "zero": "/dev/zero", "neighbour": path.parent}[kind])  # fmt: skip


MUTATIONS: list[Mutation] = [
    flip_byte, odd_cell, insert_bytes, odd_cell, swap_cells, swap_columns_of_a_row, drop_row,
    duplicate_row, shuffle_rows, shuffle_columns, drop_column, duplicate_column, shift_header,
    other_dialect, other_encoding, truncate_table, replace_table, damage_image, replace_image,
    rename_image, rename_folder, swap_folder, replace_folder, empty_folder, remove_image,
    add_something,
]  # fmt: skip
