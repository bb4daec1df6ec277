"""Hostile weights"""

import io
import json
import math
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from lymphoml.core.errors import InputError
from lymphoml.features.encoder_weights import resolve_weights, trained_with
from lymphoml.models.weights import load_weights
from tests.features.test_encoder_weights import DATA, DINOV2, OF_TIMM, SEEN, TIMM
from tests.promises.jobs import Canary, cost


def repacked(part, content, compression=zipfile.ZIP_STORED):
    """An archive of torch.save with other content of its part of this name."""
    file, out = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(4)}, file)
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(out, "w", compression) as other:
        for name in archive.namelist():
            other.writestr(name, content if name.endswith(part) else archive.read(name))
    return out.getvalue()


def bomb():
    """200 MB of zeros in 0.2 MB."""
    return repacked("data/0", bytes(200 << 20), zipfile.ZIP_DEFLATED)


def legacy():
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def tar():
    file, data = io.BytesIO(), pickle.dumps(Canary(Path("fired")), protocol=2)
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


class Giant:
    def __reduce__(self):
        return torch.FloatTensor, (10**11,)


def pickled(description):
    return lambda: repacked("data.pkl", description)


def claim(*sizes, levels=0):
    """Tensors of a stride of 0, which has no bytes; or lists of which each has the last twice."""
    content = torch.zeros(1).expand(*sizes)
    for _ in range(levels):
        content = [content, content]
    file = io.BytesIO()
    torch.save({"weight": content}, file)
    return file.getvalue()


FILES = {
    "a tensor of one number, 10^11 times": lambda: claim(10**11),
    "2^40 values": lambda: claim(1, levels=40),
    "legacy": legacy,
    "tar": tar,
    "bomb": bomb,
    "truncated": lambda: repacked("", b"")[:700],
    "empty": lambda: b"",
    "zip of nothing": lambda: b"PK\x05\x06" + bytes(18),
    "a giant tensor": pickled(pickle.dumps(Giant(), 2)),
    "a deep list": pickled(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "no end": pickled(b"\x80\x02]"),
    "a long string": pickled(b"\x80\x02X\xff\xff\xff\x7fabc."),
    "a later protocol": pickled(pickle.dumps(Canary(Path("fired")), 4)),
}


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(start, stop, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


NANS = struct.pack("<6f", *[math.nan] * 6)
WEIGHT = tensor(8, 24, (2, 2))
TWICE = b'"bias":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
BAD = {
    "a header longer than the file": safetensors({}, length=1 << 40),
    "overlapping": safetensors({"bias": tensor(0, 8), "weight": tensor(4, 12)}, bytes(12)),
    "beyond all bounds": safetensors({"bias": tensor(0, 1 << 62, (1 << 60,))}, bytes(8)),
    "a key twice": safetensors(b"{" + TWICE + b"," + TWICE + b"}", bytes(8)),
    "an unknown type": safetensors({"bias": tensor(0, 8, dtype="F31")}, bytes(8)),
    "integers": safetensors({"bias": tensor(0, 8, dtype="I32"), "weight": WEIGHT}, bytes(24)),
    "NaN": safetensors({"bias": tensor(0, 8), "weight": WEIGHT}, NANS),
    "another shape": safetensors({"bias": tensor(0, 8, (1,))}, bytes(8)),
    "a list": safetensors(b"[]"),
    "deep": safetensors(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_wrong_safetensors_are_refused(name, tmp_path):
    """a safetensors file with a bloated, overlapping, repeating or wrong header → a line; memory
    bounded"""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(BAD[name])
    with pytest.raises(InputError) as caught:
        load_weights(torch.nn.Linear(2, 2), path)
    assert len(caught.value.problems) <= 2
    assert all("weights.safetensors" in problem for problem in caught.value.problems)


WRONG = [
    [], {"architecture": 3, "model_args": 4}, {"architecture": "x", "pretrained_cfg": []},
    OF_TIMM | {"model_args": {"norm": "group"}},
    OF_TIMM | {"pretrained_cfg": {"mean": [0.5], "std": [0.5]}},
    OF_TIMM | {"pretrained_cfg": {"mean": [0.5] * 3, "std": [0.0] * 3}},
    OF_TIMM | {"pretrained_cfg": {"input_size": [3, 10**9]}},
    OF_TIMM | {"pretrained_cfg": {"input_size": []}},
    DINOV2 | {"layer_norm_eps": 1e-5}, DINOV2 | {"hidden_act": "relu"},
]  # fmt: skip


@pytest.mark.parametrize(("config", "seen"), [
    *((each, SEEN) for each in WRONG), (DINOV2, SEEN | {"crop_size": {"height": "28"}}),
    (DINOV2, []),
])  # fmt: skip
def test_a_wrong_config_is_one_line(config, seen, tmp_path):
    """a config of timm or transformers next to weights that is corrupt, or of a network that timm
    has not → a line that names it"""
    for name, content in (("config.json", config), ("preprocessor_config.json", seen)):
        (tmp_path / name).write_text(json.dumps(content))
    path = tmp_path / "model.safetensors"
    path.touch()
    with pytest.raises(InputError) as caught:
        resolve_weights(
            TIMM | {"norm": "batch", "weights": str(tmp_path)}, DATA | trained_with(path)
        )
    assert all("\n" not in each and "config.json" in each for each in caught.value.problems)


def test_a_pickle_among_weights_is_refused(tmp_path):
    """weights of a training program's file that hold more than tensors → a line; nothing runs"""
    fired, path = tmp_path / "fired", tmp_path / "pytorch_model.bin"
    torch.save({"teacher": {"a": torch.zeros(1)}, "args": Canary(fired)}, path)
    with pytest.raises(InputError, match="more than plain tensors"):
        load_weights(torch.nn.Linear(2, 2), path)
    assert not fired.exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content"), [
    ("weights.pt", bomb),
    ("weights.safetensors", lambda: safetensors(b"{" + b" " * (90 << 20) + b"}")),
])  # fmt: skip
def test_bombs_cost_no_memory(name, content, tmp_path):
    """a bomb of 200 MB as weights → one line; under 50 MB more memory"""
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
