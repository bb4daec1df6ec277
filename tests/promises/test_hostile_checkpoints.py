"""Checkpoints and weights made by an enemy."""

import copy
import hashlib
import io
import json
import math
import pickle
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from lymphoml.cli.config import CONF, run_config, validate
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.models.weights import load_weights
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.hostile import Canary, cost, one_line, python, refused
from tests.promises.table import ROOT

WORDS = ["data=synthetic", "model/fusion=clinical", "trainer.max_epochs=2", "data.folds=2",
         "trainer.num_threads=1", "trainer.enable_progress_bar=false", "logger=none", "optim=adam"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of the clinical values, and its cohort."""
    folder = tmp_path_factory.mktemp("trained")
    synthesize(folder / "cohort", patients=15, test_patients=2, images=(1, 1), size=16, seed=0)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = validate(compose("train", overrides=[*WORDS, f"data.root={folder}/cohort"]))
    cross_validate(config, folder / "run")
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained.parent / "cohort", tmp_path / "cohort")
    return shutil.copytree(trained, tmp_path / "run")


def place_of(run):
    """The word without which nobody knows where the run's cohort lies."""
    return f"data.root={run.parent / 'cohort'}"


def tamper(run, change=None, content=None):
    """Change every checkpoint of the run, its digest with it."""
    paths = list(run.glob("fold-*/*.ckpt"))
    assert paths
    for path in paths:
        if content is None:
            loaded = torch.load(path, weights_only=True)
            change(loaded)
            torch.save(loaded, path)
        else:
            path.write_bytes(content)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


def put(content, place, value):
    *above, last = place.split(".")
    for key in above:
        content = content[key]
    content[last] = value


def resume(run):
    """As after a kill in the second epoch."""
    for path in [run / "metrics.json", *run.glob("fold-*/done.json")]:
        path.unlink()
    cross_validate(run_config(run, {"root": str(run.parent / "cohort")}, {}), run)


def resume_is_refused(run):
    with pytest.raises(InputError) as caught:
        resume(run)
    assert len(caught.value.problems) == 1
    assert not list(run.glob("fold-*/done.json"))


PLACES = ["canary", "state_dict.canary", "hyper_parameters.canary", "hyper_parameters.model.canary",
          "callbacks.canary", "optimizer_states", "lr_schedulers", "loops.canary",
          "BagDataModule.canary", "BagDataModule.clinical.canary", "epoch"]  # fmt: skip


@pytest.mark.promise(
    "a checkpoint that runs code, at any place in it, its digest right",
    "nothing runs by resuming, predicting, reporting, comparing or triage; one line, exit code 2",
)
@pytest.mark.parametrize("place", PLACES)
def test_a_payload_runs_nowhere(place, run, tmp_path, capsys, record_property):
    fired = tmp_path / "fired"
    tamper(run, lambda content: put(content, place, Canary(fired)))
    torch.load(next(run.glob("fold-0/*.ckpt")), weights_only=False)
    assert fired.exists()  # the payload works
    fired.rmdir()
    assert "plain tensors" in refused(capsys, "predict", f"run={run}", place_of(run))
    resume_is_refused(run)
    assert not fired.exists()
    record_property("tried", 2)


@pytest.mark.promise("the same, under commands that need no checkpoint", "nothing runs")
def test_a_payload_is_not_even_read_by_reports(run, tmp_path, record_property):
    fired = tmp_path / "fired"
    tamper(run, lambda content: put(content, "state_dict.canary", Canary(fired)))
    main(["report", f"run={run}"])
    main(["triage", f"run={run}"])
    other = shutil.copytree(run, tmp_path / "other")
    main(["compare", f"runs=[{run},{other}]", "resamples=100", f"out={tmp_path}"])
    assert not fired.exists()
    record_property("tried", 3)


def test_a_payload_through_the_commands_themselves(run, tmp_path):
    fired = tmp_path / "fired"
    tamper(run, lambda content: put(content, "state_dict.canary", Canary(fired)))
    done = python(ROOT / "predict.py", f"run={run}", place_of(run), cwd=tmp_path)
    assert done.returncode == 2
    assert "plain tensors" in one_line(done.stderr)
    assert not fired.exists()


TARGET = {"_target_": "os.mkdir", "path": "fired"}
MODEL = "hyper_parameters.model"
GIANT = {"_target_": "lymphoml.models.mil.MILModel",
         "encoder": {"_target_": "lymphoml.models.encoders.timm_encoder", "name": "test_resnet"},
         "pooling": {"_target_": "lymphoml.models.pooling.Attention", "hidden": 10**12},
         "fusion": {"_target_": "lymphoml.models.fusion.Concat"}}  # fmt: skip


def scaling(names, mean, scale):
    return {"names": names, "mean": mean, "scale": scale}


VALUES = {
    "a target of the model": (MODEL, {"fusion": TARGET}),
    "a target of the fusion": (f"{MODEL}.fusion._target_", "os.mkdir"),
    "a target in an argument": (f"{MODEL}.fusion.hidden", TARGET),
    "a target in a list": (f"{MODEL}.fusion.hidden", [[{"a": TARGET}]]),
    "a target of the model itself": (f"{MODEL}._target_", "builtins.exec"),
    "no target": (MODEL, {}),
    "a giant model": (MODEL, GIANT),
    "a large model": (MODEL, {**GIANT, "pooling": {**GIANT["pooling"], "hidden": 10**7}}),
    "a deep model": (MODEL, {**GIANT, "encoder": {
        **GIANT["encoder"], "name": "vit_tiny_patch16_224", "depth": 10**5}}),
    "giant clinical values": ("hyper_parameters.clinical_dim", 10**12),
    "negative clinical values": ("hyper_parameters.clinical_dim", -3),
    "settings that are none": ("hyper_parameters", {"model": None}),
    "settings of a list": ("hyper_parameters", []),
    "no weights": ("state_dict", {}),
    "weights that are text": ("state_dict", {"a": "b"}),
    "weights of another shape": ("state_dict.model.fusion.head.weight", torch.zeros(3, 3)),
    "another weight": ("state_dict.x", torch.zeros(3)),
    "no clinical": ("BagDataModule.clinical", None),
    "clinical of text": ("BagDataModule.clinical.mean", ["a", "b"]),
    "clinical of NaN": ("BagDataModule.clinical.mean", [math.nan, math.nan]),
    "a scale of zero": ("BagDataModule.clinical.scale", [0.0, 0.0]),
    "clinical columns": ("BagDataModule.clinical.columns", {"age": 3}),
    "other columns": ("BagDataModule.schema", {"a": 1}),
    "rows of text": ("BagDataModule.rows", "many"),
    "rows of nothing": ("BagDataModule.rows", scaling([], [], [])),
    "a row's scale of zero": ("BagDataModule.rows", scaling(["a"], [1.0], [0.0])),
    "rows of NaN": ("BagDataModule.rows", scaling(["a"], [math.nan], [1.0])),
    "rows of two widths": ("BagDataModule.rows", scaling(["a"], [1.0, 2.0], [1.0])),
    "rows where none are": ("BagDataModule.rows", scaling(["a"], [1.0], [1.0])),
    "an image size": ("BagDataModule.image_size", "large"),
    "an epoch": ("BagDataModule.next_epoch", "later"),
}  # fmt: skip


@pytest.mark.promise(
    "hyper-parameters, weights or scaling of a checkpoint changed, targets and giants among them",
    "one line, exit code 2; nothing is built, called or allocated",
)
@pytest.mark.parametrize("name", VALUES)
def test_changed_content_is_one_line(name, run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place, value = VALUES[name]

    def change(content):
        if place.startswith("state_dict."):
            key = place.removeprefix("state_dict.")
            weights = content["state_dict"]
            key = next((k for k in weights if k.endswith(".weight")), key) if "head" in key else key
            weights[key] = value
        else:
            put(content, place, copy.deepcopy(value))

    tamper(run, change)
    refused(capsys, "predict", f"run={run}", place_of(run))
    assert not (tmp_path / "fired").exists()


STATES = {
    "no optimiser": ("optimizer_states", []),
    "an optimiser of text": ("optimizer_states", ["x"]),
    "another optimiser": ("optimizer_states", [{"state": {}, "param_groups": []}]),
    "a history of formulas": ("callbacks.History.rows", [{"=1+1": 1.0}]),
    "a history of text": ("callbacks.History", "x"),
    "no selected epoch": ("callbacks.SaveEpoch", {"selected_epoch": "x", "selected_loss": 0.0}),
    "no callbacks": ("callbacks", 3),
    "weights of another shape": ("state_dict", {"model.fusion.head.weight": torch.zeros(3, 3)}),
}


@pytest.mark.promise(
    "the state from which to resume changed", "one line; the fold is not called done"
)
@pytest.mark.parametrize("name", STATES)
def test_a_changed_state_is_not_resumed(name, run):
    tamper(run, lambda content: put(content, *copy.deepcopy(STATES[name])))
    resume_is_refused(run)


def _legacy():
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(Canary(Path("fired")), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def _zip(compression, change=lambda name, data: data):
    file, out = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(4)}, file)
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(out, "w", compression) as other:
        for name in archive.namelist():
            other.writestr(name, change(name, archive.read(name)))
    return out.getvalue()


def _pickled(description):
    """An archive of torch.save whose description is this one."""
    return _zip(
        zipfile.ZIP_STORED,
        lambda name, data: description if name.endswith("data.pkl") else data,
    )


def _bomb():
    """200 MB of zeros in 0.2 MB."""
    return _zip(
        zipfile.ZIP_DEFLATED,
        lambda name, data: bytes(200 << 20) if name.endswith("data/0") else data,
    )


class _Called:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


FILES = {
    "legacy": _legacy,
    "tar": _tar,
    "bomb": _bomb,
    "truncated": lambda: _zip(zipfile.ZIP_STORED)[:700],
    "empty": lambda: b"",
    "zeros": lambda: bytes(1000),
    "zip of nothing": lambda: b"PK\x05\x06" + bytes(18),
    "a giant bytearray": lambda: _pickled(pickle.dumps(_Called(bytearray, 10**12), 2)),
    "a giant tensor": lambda: _pickled(pickle.dumps(_Called(torch.FloatTensor, 10**11), 2)),
    "a deep list": lambda: _pickled(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."),
    "a memo of nothing": lambda: _pickled(b"\x80\x02h\x07."),
    "no end": lambda: _pickled(b"\x80\x02]"),
    "a long string": lambda: _pickled(b"\x80\x02X\xff\xff\xff\x7fabc."),
    "a later protocol": lambda: _pickled(pickle.dumps(Canary(Path("fired")), 4)),
}


@pytest.mark.promise(
    "bombs, legacy, truncated and other formats as checkpoint or weights",
    "refused in one line before anything is unpacked",
)
@pytest.mark.parametrize("name", FILES)
def test_other_formats_are_refused(name, run, tmp_path, capsys, monkeypatch, record_property):
    monkeypatch.chdir(tmp_path)
    content = FILES[name]()
    tamper(run, content=content)
    refused(capsys, "predict", f"run={run}", place_of(run))
    resume_is_refused(run)
    Path("weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pt"):
        load_weights(torch.nn.Linear(2, 2), Path("weights.pt"))
    assert not Path("fired").exists()
    record_property("tried", 3)


def _safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _tensor(start, stop, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


BAD = {
    "a header longer than the file": _safetensors({}, length=1 << 40),
    "a header of 90 MB": _safetensors(b"{" + b" " * (90 << 20) + b"}"),
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
    "a safetensors file with a bloated, overlapping, repeating or lying header",
    "refused in one line before the library opens it",
)
@pytest.mark.parametrize("name", BAD)
def test_safetensors_that_lie_are_refused(name, tmp_path):
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


@pytest.mark.promise("a bomb of 200 MB as weights", "refused with under 50 MB more memory")
@pytest.mark.parametrize(("name", "content"), [
    ("weights.pt", _bomb), ("weights.safetensors", lambda: BAD["a header of 90 MB"]),
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


@pytest.mark.promise(
    "a link, pipe or device in a run folder that was sent",
    "refused in one line; what it leads to is neither read nor written",
)
@pytest.mark.parametrize("place", ["fold-0/last.ckpt", "fold-1", "test", "config.yaml",
                                   "metrics.json", "predictions.csv", ".lock"])  # fmt: skip
def test_a_run_folder_reaches_no_other_place(place, run, tmp_path, capsys, record_property):
    outside = tmp_path / "outside"
    path = run / place
    if path.is_dir() or path.exists():
        shutil.move(path, outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    for words in (["predict"], ["report"], ["triage"]):
        assert "link" in refused(capsys, *words, f"run={run}")
    resume_is_refused_untouched(run)
    assert sorted(str(each) for each in tmp_path.rglob("*")) == before
    record_property("tried", 4)


def resume_is_refused_untouched(run):
    try:
        config = run_config(run, {"root": str(run.parent / "cohort")}, {})
    except InputError:
        return
    with pytest.raises(InputError, match="link"):
        cross_validate(config, run)
