"""Hostile images"""

import io
import shutil
import struct
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image

from lymphoml.data import decoding
from lymphoml.data.decoding import FORMATS, ImageProblem, open_rgb
from lymphoml.runs.prepare import prepare
from tests.promises.jobs import configuration, cost, few, train_ends


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width=32, height=32, more=b"", data=None, depth=8, colour=2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(3 * width)) * height) if data is None else data
    chunks = chunk(b"IHDR", header) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def saved(form, mode="RGB", size=(32, 32), **options) -> bytes:
    content = io.BytesIO()
    Image.new(mode, size).save(content, form, **options)
    return content.getvalue()


def zeros(mb: int) -> bytes:
    return zlib.compress(bytes(mb << 20), 9)


def tiff(*entries, following=0) -> bytes:
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    end = struct.pack("<I", following) + bytes(4000)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + end


def tiff_of(width, height, following=0) -> bytes:
    return tiff((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1),
                (262, 3, 1, 1), (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height),
                (279, 4, 1, 1024), following=following)  # fmt: skip


def many_scans() -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(random).save(content, "JPEG", progressive=True)
    data = content.getvalue()
    start = data.rindex(b"\xff\xda")
    return data[:-2] + data[start:-2] * 2000 + b"\xff\xd9"


def gif(frames: int) -> bytes:
    one = saved("GIF", "P", (8, 8))
    body = one[one.index(b",", 13) : -1]
    return one[:-1] + body * frames + b";"


BOMBS = {
    "a header of 4 billion pixels": lambda: png(65_000, 65_000, data=b""),
    "60 megapixels of zeros": lambda: png(8000, 7500),
    "more data than pixels": lambda: png(data=zeros(400)),
    "a colour profile": lambda: png(more=chunk(b"iCCP", b"x\0\0" + zeros(400))),
    "a text": lambda: png(more=chunk(b"zTXt", b"x\0\0" + zeros(400))),
    "many texts": lambda: png(more=chunk(b"zTXt", b"x\0\0" + zeros(1)) * 200),
    "EXIF of PNG": lambda: png(more=chunk(b"eXIf", b"II*\0" + b"\x08\0\0\0\xff\xff" + bytes(9000))),
    "a chunk of 2 GB by its header": lambda: png(more=struct.pack(">I", 2**31 - 1) + b"tEXt"),
    "GIF of 100,000 frames": lambda: gif(100_000),
    "GIF of 65,535 a side": lambda: b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(9),
    "TIFF in a circle": lambda: tiff_of(32, 32, following=8),
    "TIFF of giant tags": lambda: tiff((256, 4, 2**31, 8), (257, 12, 2**30, 8)),
    "JPEG of 4 billion pixels": lambda: saved("JPEG").replace(
        struct.pack(">HH", 32, 32), struct.pack(">HH", 65_000, 65_000), 1),
    "JPEG of 2,000 scans": many_scans,
}  # fmt: skip
MAY_BE_READ = {"EXIF of PNG", "JPEG of 2,000 scans", "GIF of 100,000 frames", "many texts",
               "more data than pixels", "TIFF in a circle", "a text", "a colour profile",
               "a chunk of 2 GB by its header"}  # fmt: skip

CODE = """
from lymphoml.data.decoding import ImageProblem, Preprocessing, open_rgb, size_from_header
from PIL import Image
import io, warnings
warnings.simplefilter("error")
for form in ("PNG", "GIF", "JPEG", "TIFF", "BMP", "WEBP"):  # what decoding itself imports
    small = io.BytesIO()
    Image.new("RGB", (200, 200)).save(small, form)
    open_rgb(small.getvalue())
del small
def attack():
    try:
        open_rgb(Path("bomb").read_bytes())
        Path("problem").write_text("")
    except ImageProblem as problem:
        Path("problem").write_text(str(problem))
    size_from_header(Path("bomb"), Preprocessing(None, None))
"""


@pytest.mark.parametrize("name", few(BOMBS, "60 megapixels of zeros"))
def test_bombs_cost_neither_memory_nor_time(name, tmp_path):
    """a decompression bomb, giant header, endless frames, tags or scans → a line, or the harmless
    picture in it; under 50 MB more memory, under 5 s"""
    (tmp_path / "bomb").write_bytes(BOMBS[name]())
    memory, seconds = cost(CODE, tmp_path)
    problem = (tmp_path / "problem").read_text()
    assert memory < 50
    assert seconds < 5
    assert problem or name in MAY_BE_READ
    assert problem == "" or problem.isprintable()


def test_other_formats_are_not_parsed(monkeypatch):
    """one of Pillow's forty other formats, EPS for a PostScript interpreter among them → a line;
    its parser is not called"""
    Image.init()
    reached = []
    for name, (factory, accept) in dict(Image.OPEN).items():
        spy = lambda *given, name=name, factory=factory: (reached.append(name), factory(*given))[1]  # noqa: E731
        monkeypatch.setitem(Image.OPEN, name, (spy, accept))
    for form in ("PPM", "ICO", "TGA", "PCX", "SGI", "DDS", "EPS"):
        content = saved(form)
        reached.clear()
        Image.open(io.BytesIO(content)).close()
        assert form in reached  # Pillow itself would
        reached.clear()
        with pytest.raises(ImageProblem):
            open_rgb(content)
        assert set(reached) <= set(FORMATS)


ODD = {
    "CMYK": saved("JPEG", "CMYK"),
    "16 bits": saved("PNG", "I;16"),
    "1 bit": saved("PNG", "1"),
    "0 wide": png(0, 5),
    "truncated": saved("PNG", size=(200, 200))[:90],
    "truncated JPEG": saved("JPEG", size=(200, 200))[:400],
    "a PDF that is also an image": b"%PDF-1.7\n" + saved("PNG"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_images_are_a_line(name):
    """images of other modes or sizes, truncated, or not images → a line each"""
    with pytest.raises(ImageProblem) as caught:
        open_rgb(ODD[name])
    assert str(caught.value).isprintable()


def test_sound_images_are_read():
    for form in FORMATS:
        assert open_rgb(saved(form, size=(1, 1))).image.size == (1, 1)
    noise = np.random.default_rng(0).integers(0, 256, (2500, 2500, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).save(content, "JPEG", quality=20)  # a large field, poorly kept
    assert open_rgb(content.getvalue()).image.size == (2500, 2500)
    assert decoding.SMALL < 2500 * 2500


def test_images_too_small_to_train_on_are_refused_before(cohort, tmp_path, capsys):
    """a bag of one image whose BatchNorm has one value per channel; cells of 2 x 2 or 1 x 1 pixels
    to be measured → a line, exit code 2, before any training; with another norm it trains"""
    cohort = shutil.copytree(cohort, tmp_path / "cohort")
    bag = next((cohort / "trainset").glob("P*"))
    for image in sorted(bag.iterdir())[1:]:
        image.unlink()
    batch_norm = partial(configuration, cohort, tmp_path / "cache", "model.encoder.norm=batch")
    run = tmp_path / "run"
    for words in ([], ["data.train_bag_size=1", "data.batch_size=7"],
                  ["data.batch_size=4", "trainer.encoder_chunk_size=1"]):  # fmt: skip
        (line,) = train_ends(capsys, batch_norm(*words), run)
        assert "Set model.encoder.norm=group" in line
    folds = prepare(batch_norm("model.encoder.norm=group"), run).data.folds.set_index("patient")
    for words in (["data.batch_size=3"], [f"fold={folds['fold'][bag.name]}"]):  # held out there
        prepare(batch_norm(*words), run)
    paths = [min(folder.iterdir()) for folder in sorted((cohort / "trainset").glob("P*"))[:2]]
    for side, path in enumerate(paths, start=1):
        Image.new("RGB", (side, side)).save(path, "PNG")
    cells = configuration(cohort, tmp_path / "cache", "data/features=morphology",
                          "model/encoder=identity")  # fmt: skip
    lines = train_ends(capsys, cells, run)
    for side, (line, path) in enumerate(zip(lines, paths, strict=True), start=1):
        assert f"{path} of patient" in line
        assert f"{side} x {side} pixels, fewer than 5 a side" in line
    assert not run.exists()
