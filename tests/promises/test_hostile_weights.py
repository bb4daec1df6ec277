"""Hostile weights"""

import io
import json
import math
import struct
import zipfile

import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.models.weights import load_weights
from tests.promises.hostile import cost, few


def repacked(compression, change=lambda name, data: data):
    file, out = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(4)}, file)
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(out, "w", compression) as other:
        for name in archive.namelist():
            other.writestr(name, change(name, archive.read(name)))
    return out.getvalue()


def bomb():
    """200 MB of zeros in 0.2 MB."""
    return repacked(
        zipfile.ZIP_DEFLATED,
        lambda name, data: bytes(200 << 20) if name.endswith("data/0") else data,
    )


def _safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(start, stop, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


BAD = {
    "a header longer than the file": _safetensors({}, length=1 << 40),
    "overlapping": _safetensors({"bias": _tensor(0, 8), "weight": _tensor(4, 12)}, bytes(12)),
    "out of bounds": _safetensors({"bias": _tensor(0, 8)}, bytes(4)),
    "beyond all bounds": _safetensors({"bias": _tensor(0, 1 << 62, (1 << 60,))}, bytes(8)),
    "negative": _safetensors({"bias": _tensor(-8, 0)}, bytes(8)),
    "a gap": _safetensors({"bias": _tensor(8, 16)}, bytes(16)),
    "a key twice": _safetensors(
        b'{"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "an unknown type": _safetensors({"bias": _tensor(0, 8, dtype="F31")}, bytes(8)),
    "whole numbers": _safetensors({"bias": _tensor(0, 8, dtype="I32"),
                                   "weight": _tensor(8, 24, (2, 2))}, bytes(24)),
    "NaN": _safetensors({"bias": _tensor(0, 8), "weight": _tensor(8, 24, (2, 2))},
                        struct.pack("<6f", *[math.nan] * 6)),
    "another shape": _safetensors({"bias": _tensor(0, 8, (1,))}, bytes(8)),
    "a list": _safetensors(b"[]"),
    "deep": _safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.promise(
    "a safetensors file with a bloated, overlapping, repeating or wrong header",
    "a line, before the library opens it",
)
@pytest.mark.parametrize("name", few(BAD, "overlapping", "a key twice", "NaN", "deep"))
def test_wrong_safetensors_are_refused(name, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(BAD[name])
    with pytest.raises(InputError) as caught:
        load_weights(torch.nn.Linear(2, 2), path)
    assert len(caught.value.problems) <= 2
    assert all("weights.safetensors" in problem for problem in caught.value.problems)


def test_sound_safetensors_are_read(tmp_path):
    path = tmp_path / "weights.safetensors"
    header = {"bias": _tensor(0, 8), "weight": _tensor(8, 24, (2, 2))}
    path.write_bytes(_safetensors(header, struct.pack("<6f", *range(6))))
    network = torch.nn.Linear(2, 2)
    load_weights(network, path)
    assert network.bias.tolist() == [0.0, 1.0]


@pytest.mark.slow
@pytest.mark.promise("a bomb of 200 MB as weights", "one line; under 50 MB more memory")
@pytest.mark.parametrize(("name", "content"), [
    ("weights.pt", bomb),
    ("weights.safetensors", lambda: _safetensors(b"{" + b" " * (90 << 20) + b"}")),
])  # fmt: skip
def test_bombs_cost_no_memory(name, content, tmp_path):
    (tmp_path / name).write_bytes(content())
    code = (
        "import torch, safetensors.torch\nfrom lymphoml.core.errors import InputError\n"
        "from lymphoml.models.weights import load_weights\nnetwork = torch.nn.Linear(2, 2)\n"
        f"def attack():\n try: load_weights(network, Path({name!r}))\n"
        " except InputError: return\n raise SystemExit('was read')"
    )
    memory, seconds = cost(code, tmp_path)
    assert memory < 50
    assert seconds < 5
