"""The search for leaks"""

import base64
import gzip
import io
import struct
import zipfile
from datetime import date

import numpy as np
from PIL import Image, PngImagePlugin

from tests.fake_wandb import BLOCK
from tests.promises.journey import REFERENCE
from tests.promises.search import date_needles, search, word_needles

BORN = date(1931, 3, 17)
SECONDS = (BORN - date(1970, 1, 1)).days * 86400
AGE = (REFERENCE - BORN).days / 365.25
WRITTEN = ["1931-03-17", "17.03.1931", "17/3/1931", "3/17/1931", "19310317", "17031931",
           "17 March 1931", "March 17, 1931", "17-Mar-31", "1931-03-17 00:00:00",
           str(SECONDS), repr(AGE)]  # fmt: skip
NUMBERS = [struct.pack("<d", AGE), np.array([BORN], "datetime64[ns]").tobytes()]


def zipped(content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", content)
    return packed.getvalue()


def wandb_record(content):
    """A record that a block's border cuts in two."""
    filler = bytes(BLOCK - 7 - 7 - 7 - 10)
    start = b":W&B" + bytes(3) + struct.pack("<IHB", 0, len(filler), 1) + filler
    start += struct.pack("<IHB", 0, 3, 2) + content[:3] + struct.pack("<IHB", 0, 0, 3)
    start += bytes(BLOCK - len(start)) if BLOCK - len(start) < 7 else b""
    return start + struct.pack("<IHB", 0, len(content) - 3, 4) + content[3:]


def image(content):
    file, text = io.BytesIO(), PngImagePlugin.PngInfo()
    text.add_text("Comment", content.decode(), zip=True)
    Image.new("RGB", (9, 9)).save(file, "PNG", pnginfo=text)
    return file.getvalue()


CONTAINERS = [
    bytes, bytes.upper, lambda content: content.decode().encode("utf-16"),
    lambda content: content.hex().encode(), lambda content: base64.b64encode(b"x" + content),
    lambda content: base64.b64encode(b"xy" + content), lambda content: zipped(zipped(content)),
    lambda content: gzip.compress(content + np.random.bytes(9999))[:-99], wandb_record, image,
    lambda content: b"<script>" + base64.b64encode(gzip.compress(content)) + b"<",
]  # fmt: skip


def test_the_search_finds_what_is_packed(tmp_path):
    """the search: words in archives, checkpoints, records of W&B, pictures, names of files and
    links; a birth date in each format, as seconds, and as an exact age → finds each"""
    file = tmp_path / "file"
    needles = {"name": word_needles("Quastenflosser"), "none": word_needles("Zitteraal")}
    for number, pack in enumerate(CONTAINERS):
        file.write_bytes(pack(b"Quastenflosser, 17.03.1931"))
        assert search(tmp_path, needles)[1] == [("name", "file")], number
    dates = {"born": date_needles(BORN, REFERENCE), "other": date_needles(date(1940, 8, 23), BORN)}
    for content in [*(each.encode() for each in WRITTEN), *NUMBERS, str(SECONDS).encode("utf-16")]:
        file.write_bytes(b"before " + content + b" after")
        assert search(tmp_path, dates)[1] == [("born", "file")], content
    (tmp_path / "link").symlink_to("/home/quastenflosser")
    file.rename(tmp_path / "Quastenflosser")
    found = search(tmp_path, needles)[1]
    assert found == [("name", "Quastenflosser"), ("name", "link")]
    assert search(tmp_path, {"name": word_needles("home")}, skip=[tmp_path / "link"])[1] == []
