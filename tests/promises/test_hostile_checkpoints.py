"""Hostile checkpoints"""

import copy
import hashlib
import io
import math
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.models.weights import load_weights
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.hostile import Canary, few, refused
from tests.promises.jobs import CLINICAL, configuration
from tests.promises.test_hostile_weights import bomb, repacked

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """A finished run of the clinical values."""
    folder = tmp_path_factory.mktemp("trained")
    words = [*CLINICAL, "trainer.max_epochs=2", "optim=adam"]
    cross_validate(configuration(cohort, folder / "cache", *words), folder / "run")
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def predict_is_refused(run, cohort, capsys):
    return lambda: refused(capsys, "predict", f"run={run}", f"data.root={cohort}")


@pytest.fixture
def resume_is_refused(run, cohort):
    """As after a kill in the second epoch."""

    def resume():
        for path in [run / "metrics.json", *run.glob("fold-*/done.json")]:
            path.unlink()
        with pytest.raises(InputError) as caught:
            cross_validate(run_config(run, {"root": str(cohort)}, {}), run)
        assert len(caught.value.problems) == 1
        assert not list(run.glob("fold-*/done.json"))

    return resume


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


PLACES = dict.fromkeys(["canary", "state_dict.canary", "hyper_parameters.model.canary",
                        "callbacks.canary", "optimizer_states", "lr_schedulers",
                        "BagDataModule.clinical.canary", "epoch"])  # fmt: skip


@pytest.mark.promise(
    "a checkpoint that runs code, at any place in it, its digest right",
    "nothing runs on resuming or predicting; one line, exit code 2",
)
@pytest.mark.parametrize("place", few(PLACES, "state_dict.canary", "optimizer_states"))
def test_a_payload_runs_nowhere(
    place, run, tmp_path, predict_is_refused, resume_is_refused, record_property
):
    fired = tmp_path / "fired"
    tamper(run, lambda content: put(content, place, Canary(fired)))
    torch.load(next(run.glob("fold-0/*.ckpt")), weights_only=False)
    assert fired.exists()  # the payload works
    fired.rmdir()
    assert "plain tensors" in predict_is_refused()
    resume_is_refused()
    assert not fired.exists()
    record_property("tried", 2)


@pytest.mark.promise("such a checkpoint, and report, triage and compare", "nothing runs")
def test_reports_read_no_checkpoint(run, tmp_path, record_property):
    fired = tmp_path / "fired"
    tamper(run, lambda content: put(content, "state_dict.canary", Canary(fired)))
    main(["report", f"run={run}"])
    main(["triage", f"run={run}"])
    other = shutil.copytree(run, tmp_path / "other")
    main(["compare", f"runs=[{run},{other}]", "resamples=100", f"out={tmp_path}"])
    assert not fired.exists()
    record_property("tried", 3)


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
    "no weights": ("state_dict", {}),
    "weights that are text": ("state_dict", {"a": "b"}),
    "weights of another shape": ("state_dict.weight", torch.zeros(3, 3)),
    "another weight": ("state_dict.x", torch.zeros(3)),
    "no clinical": ("BagDataModule.clinical", None),
    "clinical of text": ("BagDataModule.clinical.mean", ["a", "b"]),
    "clinical of NaN": ("BagDataModule.clinical.mean", [math.nan, math.nan]),
    "a scale of zero": ("BagDataModule.clinical.scale", [0.0, 0.0]),
    "clinical columns": ("BagDataModule.clinical.columns", {"age": 3}),
    "other columns": ("BagDataModule.schema", {"a": 1}),
    "features of nothing": ("BagDataModule.features", scaling([], [], [])),
    "features of two widths": ("BagDataModule.features", scaling(["a"], [1.0, 2.0], [1.0])),
    "features where none are": ("BagDataModule.features", scaling(["a"], [1.0], [1.0])),
    "an image size": ("BagDataModule.image_size", "large"),
}  # fmt: skip


@pytest.mark.promise(
    "changed hyper-parameters, weights or scaling of a checkpoint: targets, giants and others",
    "one line, exit code 2; nothing is built, called or allocated",
)
@pytest.mark.parametrize(
    "name", few(VALUES, "a target of the model", "weights of another shape", "clinical of NaN")
)
def test_changed_content_is_one_line(name, run, tmp_path, predict_is_refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place, value = VALUES[name]

    def change(content):
        if place.startswith("state_dict."):
            weights, suffix = content["state_dict"], place.rpartition(".")[2]
            weights[next((key for key in weights if key.endswith(suffix)), suffix)] = value
        else:
            put(content, place, copy.deepcopy(value))

    tamper(run, change)
    predict_is_refused()
    assert not (tmp_path / "fired").exists()


STATES = {
    "no optimiser": ("optimizer_states", []),
    "another optimiser": ("optimizer_states", [{"state": {}, "param_groups": []}]),
    "a history of formulas": ("callbacks.History.rows", [{"=1+1": 1.0}]),
    "no selected epoch": ("callbacks.SaveEpoch", {"selected_epoch": "x", "selected_loss": 0.0}),
    "no callbacks": ("callbacks", 3),
    "weights of another shape": ("state_dict", {"model.fusion.head.weight": torch.zeros(3, 3)}),
}


@pytest.mark.promise(
    "a changed state of optimiser or callbacks", "one line on resuming; the fold is not done"
)
@pytest.mark.parametrize("name", few(STATES, "another optimiser", "a history of formulas"))
def test_a_changed_state_is_not_resumed(name, run, resume_is_refused):
    tamper(run, lambda content: put(content, *copy.deepcopy(STATES[name])))
    resume_is_refused()


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


def _pickled(description):
    """An archive of torch.save whose description is this one."""
    return repacked(
        zipfile.ZIP_STORED,
        lambda name, data: description if name.endswith("data.pkl") else data,
    )


class _Called:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


FILES = {
    "legacy": _legacy,
    "tar": _tar,
    "bomb": bomb,
    "truncated": lambda: repacked(zipfile.ZIP_STORED)[:700],
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
    "one line before anything is unpacked",
)
@pytest.mark.parametrize("name", few(FILES, "legacy", "bomb", "a giant tensor", "truncated"))
def test_other_formats_are_refused(
    name, run, tmp_path, predict_is_refused, resume_is_refused, monkeypatch, record_property
):
    monkeypatch.chdir(tmp_path)
    content = FILES[name]()
    tamper(run, content=content)
    predict_is_refused()
    resume_is_refused()
    Path("weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pt"):
        load_weights(torch.nn.Linear(2, 2), Path("weights.pt"))
    assert not Path("fired").exists()
    record_property("tried", 3)


LINKED = dict.fromkeys(["fold-0/last.ckpt", "fold-1", "test", "config.yaml", "metrics.json",
                        "predictions.csv", ".lock"])  # fmt: skip


@pytest.mark.promise(
    "a link to elsewhere in a run folder that was sent",
    "one line, exit code 2; its target is neither read nor written",
)
@pytest.mark.parametrize("place", few(LINKED, "fold-0/last.ckpt", "test", "config.yaml"))
def test_a_run_folder_reaches_no_other_place(place, run, cohort, tmp_path, capsys, record_property):
    outside, path = tmp_path / "outside", run / place
    if path.exists():
        shutil.move(path, outside)
    else:
        outside.mkdir()
    path.symlink_to(outside)
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    for command in ("predict", "report", "triage"):
        assert "link" in refused(capsys, command, f"run={run}")
    with pytest.raises(InputError, match="link"):
        cross_validate(run_config(run, {"root": str(cohort)}, {}), run)
    assert sorted(str(each) for each in tmp_path.rglob("*")) == before
    record_property("tried", 4)
