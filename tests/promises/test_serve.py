"""The page for one patient: hostile uploads, many clients"""

import io
import random
import re
import socket
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.promises.jobs import ROOT, end, start
from tests.promises.test_hostile_images import png

SERVER = """
from lymphoml.cli.config import data_config
from lymphoml.data.settings import DataConfig
from lymphoml.deploy.serve import serve
from tests.deploy.test_serve import Brightness
clinical = {"clinical": ["age", "lymphocyte_count", "sex"]}
serve(Brightness(), DataConfig.read(data_config("synthetic", clinical).to_dict()), 0)
"""
FORM = "multipart/form-data; boundary=x"
VALUES = {"age": "67", "lymphocyte_count": "9.1", "sex": "F"}
NAMES = ["../../etc/passwd", "C:\\nul", "a\x00b", "\x1b[31m", "=cmd()", "x" * 5000, " ", "名.png",
         "'\"><b>"]  # fmt: skip
ODD = ["1e999", "nan", "9" * 900, "", "x\n", "ÿ", "=1", "-5"]


@pytest.fixture
def server():
    """The process and its address."""
    process = start("-c", SERVER, cwd=ROOT)
    try:
        yield process, process.stdout.readline().split()[0]
    finally:
        end(process)


def picture(level=100, size=64, kind="JPEG"):
    content = io.BytesIO()
    Image.new("RGB", (size, size), (level, level, level)).save(content, kind)
    return content.getvalue()


def bomb(width=60_000):
    """A PNG of few bytes that says it has 3.6 billion pixels."""
    return png(width, width, data=zlib.compress(bytes(1000)))


def hostile(draw):
    """An upload at fault: httpx's arguments."""
    files = [("images", (f"{number}.jpg", picture(number))) for number in range(3)]
    values = dict(VALUES)
    kind = draw.choice([0] * 6 + [2, 3, 4, 5] * 4 + [6] * 2 + [1, 7])
    if kind == 0:
        content = [bomb(), bomb(20_000), picture()[: draw.randrange(600)], b"", bytes(5000),
                   b"GIF89a" + draw.randbytes(200), b"<svg/>", draw.randbytes(50_000)]  # fmt: skip
        files.append(("images", (draw.choice(NAMES), draw.choice(content))))
    elif kind == 1:
        files = [("images", (str(number), b"x")) for number in range(draw.choice([1001, 10_000]))]
    elif kind == 2:
        values[draw.choice([*VALUES])] = draw.choice(ODD)
    elif kind == 3:
        values[draw.choice(["weight", "__class__", "x" * 500, "images"])] = "1"
    elif kind == 4:
        body = draw.randbytes(draw.randrange(2000))
        return {"content": body, "headers": {"content-type": FORM}}
    elif kind == 5:
        body, form = b"--x\r\n" * draw.randrange(500), draw.choice([FORM, "text/plain", "x"])
        return {"content": body, "headers": {"content-type": form}}
    elif kind == 6:
        files = [("images", (f"{number}.jpg", picture(3, 2000, "PNG"))) for number in range(40)]
        values["age"] = "old"
    else:
        files = [("images", ("big.jpg", bytes(65 << 20)))]
    return {"files": files, "data": values}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hostile_uploads_are_refused_in_a_line(server):
    """uploads that are bombs, truncated, of another type, 10,000 files, huge values, path names,
    no form → a line each, less than 300 MB more memory, the page alive and answering"""
    process, address = server
    draw = random.Random(0)
    with httpx.Client(base_url=address, timeout=60) as client:
        good = {"files": [("images", ("a.jpg", picture()))], "data": VALUES}
        whole = client.post("/answer", **good).json()
        idle = memory(process)
        for _ in range(150):
            try:
                found = client.post("/answer", **hostile(draw))
            except httpx.WriteError:  # refused by its length, before all of it was sent
                continue
            assert 400 <= found.status_code < 500, found.text
            lines = found.json()["problems"]
            assert lines
            assert all(line.isprintable() and len(line) < 7000 for line in lines)
            assert not any(re.search("Traceback|site-packages|Error:", line) for line in lines)
        assert memory(process) - idle < 300
        assert client.post("/answer", **good).json() == whole
        assert "One patient" in client.get("/").text
    process.terminate()
    assert process.communicate()[1] == ""


def memory(process):
    """The most MB that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def hang_up(address):
    """Begin an upload, and close the connection."""
    host = address.removeprefix("http://")
    name, port = host.split(":")
    head = f"POST /answer HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9999\r\n"
    with socket.create_connection((name, int(port))) as connection:
        connection.sendall(f"{head}Content-Type: {FORM}\r\n\r\n--x".encode())


@pytest.mark.slow
def test_eight_clients_get_the_answers_of_their_own_patients(server):
    """eight clients at once → each the answer that it gets alone; one that hangs up in the
    middle of its upload disturbs nobody"""
    _, address = server

    def upload(number):
        files = [("images", (f"{each}.png", picture((number * 7 + each * 31) % 256, kind="PNG")))
                 for each in range(1 + number % 6)]  # fmt: skip
        return {"files": files, "data": VALUES | {"age": str(20 + number % 60)}}

    def ask(number):
        if number % 10 == 0:
            hang_up(address)
        return httpx.post(f"{address}/answer", **upload(number), timeout=120).json()

    with ThreadPoolExecutor(8) as pool:
        together = [*pool.map(ask, range(64))]
    with httpx.Client(base_url=address, timeout=60) as client:
        alone = [client.post("/answer", **upload(number)).json() for number in range(64)]
    assert together == alone
    assert len({answer["probability"] for answer in together}) > 48
