"""Find words in every byte of a folder, however they were packed or written."""

import base64
import io
import re
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from datetime import date
from pathlib import Path

import numpy as np

from tests.fake_wandb import LEVELDB, leveldb_records

BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
DEEPEST = 6  # containers in containers
Needles = dict[str, list[bytes]]  # by canary


def finder(needles: Needles) -> Callable[[bytes], set[str]]:
    """Return a function that lists the canaries in bytes; needles are looked up by three bytes."""
    starts = np.zeros(1 << 24, bool)
    by_start: defaultdict[bytes, set[tuple[bytes, str]]] = defaultdict(set)
    for canary in needles:
        for needle in needles[canary]:
            starts[int.from_bytes(needle[:3], "big")] = True
            by_start[needle[:3]].add((needle, canary))

    def find(content: bytes) -> set[str]:
        a = np.frombuffer(content, np.uint8).astype(np.uint32)
        threes = a[:-2] << 16 | a[1:-1] << 8 | a[2:]
        return {
            canary
            for place in np.flatnonzero(starts[threes]).tolist()
            for needle, canary in by_start[content[place : place + 3]]
            if content.startswith(needle, place)
        }

    return find


def search(
    folder: Path, needles: Needles, skip: Collection[Path] = ()
) -> tuple[int, list[tuple[str, str]]]:
    """Search all files below `folder` but those below `skip`, their names, and links.

    Returns how many files there are, and each canary that was found with its place.
    """
    find, files, hits = finder(needles), 0, set()
    for path in folder.rglob("*"):
        if {path, *path.parents} & {*skip}:
            continue
        where, content = path.relative_to(folder).as_posix(), b""
        if path.is_symlink():
            content = str(path.readlink()).encode()
        elif path.is_file():
            content = path.read_bytes()
            files += 1
        for part in (where.encode(), *parts(content)):
            hits |= {(canary, where) for canary in find(part) | find(part.lower())}
    return files, sorted(hits)


def parts(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """Yield the content itself, and what is packed in it."""
    yield content
    if depth < DEEPEST and len(content) >= 8:
        for inner in _inside(content):
            yield from parts(inner, depth + 1)


def _inside(content: bytes) -> Iterator[bytes]:
    if zipfile.is_zipfile(io.BytesIO(content)):  # half a checkpoint is none, and not compressed
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            yield "\n".join(archive.namelist()).encode()
            yield from (archive.read(name) for name in archive.namelist())
    elif content[:2] == b"\x1f\x8b":
        yield from _inflated(content, 31)
    elif content[:4] == LEVELDB:
        yield from leveldb_records(content)
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        for match in ZLIB.finditer(content):  # text chunks, and pixels
            yield from _inflated(content[match.start() :])
    for match in BASE64.finditer(content):
        text = match.group().rstrip(b"=")
        yield base64.b64decode(text[: len(text) // 4 * 4])


def _inflated(content: bytes, window: int = 15) -> Iterator[bytes]:
    """Yield as much as there is: a kill may have cut it short."""
    try:
        yield zlib.decompressobj(window).decompress(content)
    except zlib.error:
        return


def word_needles(word: str) -> list[bytes]:
    """Return a word as UTF-8, UTF-16, hexadecimal and base64 at each alignment, in both cases."""
    found = []
    for text in {word, word.lower()}:
        plain = text.encode()
        found += [plain, text.encode("utf-16-le"), text.encode("utf-16-be"), plain.hex().encode()]
        for offset in range(3):
            coded = base64.b64encode(bytes(offset) + plain)
            found.append(coded[(0, 2, 3)[offset] :].rstrip(b"=")[:-1])
    return found


def date_needles(born: date, reference: date) -> list[bytes]:
    """Return a date as people and programs write it, and the exact age at `reference`."""
    year, month, day, short = str(born.year), born.month, born.day, f"{born:%y}"
    written = {f"{born:%Y%m%d}", f"{born:%d%m%Y}", f"{born:%m%d%Y}"}
    for m, d in ((str(month), str(day)), (f"{month:02}", f"{day:02}")):
        for gap in "/-. _:":
            written |= {gap.join(each) for each in ((year, m, d), (d, m, year), (m, d, year))}
        for gap in "/-.":
            written |= {gap.join(("", *each, short, "")) for each in ((d, m), (m, d))}
    for form in ("%d %B %Y", "%B %d, %Y", "%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%d-%b-%y"):
        written |= {f"{born:{form}}", f"{born:{form}}".replace("0", "", born.day < 10)}
    days, lived = (born - date(1970, 1, 1)).days, (reference - born).days
    written |= {str(days * 86400), repr(lived / 365.25), f"{lived / 365.25:.6f}"}
    raw = [struct.pack(order + "d", lived / 365.25) for order in "<>"]
    raw += [struct.pack("<q", days * 86400 * scale) for scale in (1, 10**3, 10**6, 10**9)]
    return [needle for word in written for needle in word_needles(word)] + raw
