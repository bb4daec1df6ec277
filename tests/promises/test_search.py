"""The search for leaks"""

import base64
import gzip
import io
import struct
import zipfile
from datetime import date

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, PngImagePlugin

from tests.fake_wandb import BLOCK
from tests.promises.journey import REFERENCE
from tests.promises.search import date_needles, search, word_needles

BORN = date(1931, 3, 17)
WORD = "Quastenflosser, 17.03.1931"


def zipped(content):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", content)
    return packed.getvalue()


def checkpoint(content):
    packed = io.BytesIO()
    torch.save({"hyper_parameters": {"root": content.decode()}}, packed)
    return packed.getvalue()


def wandb_record(content):
    """A record that a block's border cuts in two."""
    filler = bytes(BLOCK - 7 - 7 - 7 - 10)
    start = b":W&B" + bytes(3) + struct.pack("<IHB", 0, len(filler), 1) + filler
    start += struct.pack("<IHB", 0, 3, 2) + content[:3] + struct.pack("<IHB", 0, 0, 3)
    start += bytes(BLOCK - len(start)) if BLOCK - len(start) < 7 else b""
    return start + struct.pack("<IHB", 0, len(content) - 3, 4) + content[3:]


def event(content):
    return struct.pack("<QI", len(content), 0) + content + bytes(4)


def image(kind):
    def packed(content):
        file, text = io.BytesIO(), PngImagePlugin.PngInfo()
        text.add_text("Comment", content.decode(), zip=True)
        exif = Image.Exif()
        exif[270] = content.decode()
        more = {"PNG": {"pnginfo": text}, "JPEG": {"comment": content}, "WEBP": {"exif": exif}}
        Image.new("RGB", (9, 9)).save(file, kind, **more[kind])
        return file.getvalue()

    return packed


CONTAINERS = {
    "plain": bytes,
    "upper case": bytes.upper,
    "utf-16": lambda content: content.decode().encode("utf-16"),
    "hexadecimal": lambda content: content.hex().encode(),
    "base64 at 1": lambda content: base64.b64encode(b"x" + content),
    "base64 at 2": lambda content: base64.b64encode(b"xy" + content),
    "gzip": gzip.compress,
    "half a gzip": lambda content: gzip.compress(content + np.random.bytes(9999))[:-99],
    "zip": zipped,
    "gzip in base64 in html": lambda c: b"<script>" + base64.b64encode(gzip.compress(c)) + b"<",
    "a zip in a zip": lambda content: zipped(zipped(content)),
    "checkpoint": checkpoint,
    "wandb": wandb_record,
    "tfevents": event,
    "png": image("PNG"),
    "jpeg": image("JPEG"),
    "webp in a page": lambda c: b"data:image/webp;base64," + base64.b64encode(image("WEBP")(c)),
}


@pytest.mark.promise(
    "the search: words in archives, checkpoints, W&B's and TensorBoard's records, pictures",
    "finds each",
)
@pytest.mark.parametrize("container", CONTAINERS)
def test_the_search_finds_what_is_packed(tmp_path, container):
    (tmp_path / "file").write_bytes(CONTAINERS[container](WORD.encode()))
    needles = {"name": word_needles("Quastenflosser"), "none": word_needles("Zitteraal")}
    assert search(tmp_path, needles).hits == [("name", "file")]


def test_the_search_finds_names_of_files_and_links(tmp_path):
    (tmp_path / "Quastenflosser").mkdir()
    (tmp_path / "link").symlink_to("/home/quastenflosser")
    found = search(tmp_path, {"name": word_needles("Quastenflosser")}).hits
    assert found == [("name", "Quastenflosser"), ("name", "link")]
    assert search(tmp_path, {"name": word_needles("home")}, skip=[tmp_path / "link"]).hits == []


DAYS = (BORN - date(1970, 1, 1)).days
AGE = (REFERENCE - BORN).days / 365.25
WRITTEN = ["1931-03-17", "17.03.1931", "17/3/1931", "3/17/1931", "19310317", "17031931",
           "17 March 1931", "March 17, 1931", "17-Mar-31", "1931-03-17 00:00:00", "31/03/1931",
           str(pd.Timestamp(BORN)), str(DAYS * 86400), repr(AGE)]  # fmt: skip


@pytest.mark.promise(
    "the search: a birth date in each format, as seconds, and as an exact age",
    "finds each",
)
@pytest.mark.parametrize(
    "content",
    [*(each.encode() for each in WRITTEN if each != "31/03/1931"), struct.pack("<d", AGE),
     np.array([BORN], "datetime64[ns]").tobytes(), str(DAYS * 86400).encode("utf-16")],
)  # fmt: skip
def test_the_search_finds_a_date_however_written(tmp_path, content):
    (tmp_path / "file").write_bytes(b"before " + content + b" after")
    needles = {
        "born": date_needles(BORN, REFERENCE),
        "other": date_needles(date(1940, 8, 23), BORN),
    }
    assert search(tmp_path, needles).hits == [("born", "file")]
