"""Hostile checkpoints"""

import hashlib
import math
import shutil
from pathlib import Path

import pytest
import torch

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.models.weights import load_weights
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import Canary, few, problem, refused
from tests.promises.test_hostile_weights import FILES
from tests.reports.fabricate import list_files


@pytest.fixture
def predict_is_refused(run, cohort, capsys):
    return lambda: refused(capsys, "predict", f"run={run}", f"data.root={cohort}")


@pytest.fixture
def resume_is_refused(run, cohort):
    """As after a kill at the end of a fold."""

    def resume():
        for path in [run / "metrics.json", run / "SHA256SUMS", *run.glob("fold-*/done.json")]:
            path.unlink()
        assert problem(lambda: cross_validate(run_config(run, {"root": str(cohort)}, {}), run))
        assert not list(run.glob("fold-*/done.json"))

    return resume


def tamper(run, place="", value=None, content=None):
    """Put a value into every checkpoint of the run, or other content; its digest with it."""
    for path in run.glob("fold-*/last.ckpt"):
        if content is None:
            loaded = torch.load(path, weights_only=True)
            *above, last = place.split(".")
            inner = loaded
            for key in above:
                inner = inner[key]
            if place.startswith("state_dict."):
                last = next((key for key in inner if key.endswith(last)), last)
            inner[last] = value
            torch.save(loaded, path)
        else:
            path.write_bytes(content)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
    list_files(run)


PLACES = ["canary", "state_dict.canary", "optimizer_states", "BagDataModule.clinical.canary"]


@pytest.mark.parametrize("place", few(PLACES, *PLACES[1:3]))
def test_a_payload_runs_nowhere(place, run, tmp_path, predict_is_refused, resume_is_refused):
    """a checkpoint that runs code, at any place in it, its digest right → nothing runs: report,
    triage and compare do not read it; predicting and resuming: one line, exit code 2"""
    fired = tmp_path / "fired"
    tamper(run, place, Canary(fired))
    torch.load(next(run.glob("fold-0/*.ckpt")), weights_only=False)
    assert fired.exists()  # the payload works
    fired.rmdir()
    other = shutil.copytree(run, tmp_path / "other")
    main(["report", f"run={run}"])
    main(["triage", f"run={run}"])
    main(["compare", f"runs=[{run},{other}]", "resamples=100", f"out={tmp_path}"])
    assert "plain tensors" in predict_is_refused()
    resume_is_refused()
    assert not fired.exists()


TARGET = {"_target_": "os.mkdir", "path": "fired"}
MODEL = "hyper_parameters.model"
ENCODER = {"_target_": "lymphoml.models.encoders.timm_encoder", "name": "test_resnet"}
POOLING = {"_target_": "lymphoml.models.pooling.Attention", "hidden": 10**12}
GIANT = {"_target_": "lymphoml.models.mil.MILModel", "encoder": ENCODER, "pooling": POOLING,
         "fusion": {"_target_": "lymphoml.models.fusion.Concat"}}  # fmt: skip
FILE = ENCODER | {"checkpoint_path": "/etc/passwd"}
WEIGHTS = {"_target_": "lymphoml.models.encoders.resnet10", "weights": "/etc/passwd"}
DEEP = GIANT | {"encoder": ENCODER | {"name": "vit_tiny_patch16_224", "depth": 10**5}}


def scaling(names, mean, scale):
    return {"names": names, "mean": mean, "scale": scale, "weights": []}


VALUES = {
    "a target of the model": (MODEL, {"fusion": TARGET}),
    "a target of the fusion": (f"{MODEL}.fusion._target_", "os.mkdir"),
    "a target in an argument": (f"{MODEL}.fusion.hidden", TARGET),
    "a target of the model itself": (f"{MODEL}._target_", "builtins.exec"),
    "no target": (MODEL, {}),
    "a giant model": (MODEL, GIANT),
    "a large model": (MODEL, GIANT | {"pooling": POOLING | {"hidden": 10**7}}),
    "a deep model": (MODEL, DEEP),
    "a file for timm": (MODEL, GIANT | {"encoder": FILE}),
    "a file for a pooling": (MODEL, GIANT | {"pooling": WEIGHTS}),
    "giant clinical values": ("hyper_parameters.clinical_dim", 10**12),
    "settings that are none": ("hyper_parameters", {"model": None}),
    "no weights": ("state_dict", {}),
    "weights that are text": ("state_dict", {"a": "b"}),
    "weights of another shape": ("state_dict.weight", torch.zeros(3, 3)),
    "no clinical": ("BagDataModule.clinical", None),
    "clinical of text": ("BagDataModule.clinical.mean", ["a", "b"]),
    "clinical of NaN": ("BagDataModule.clinical.mean", [math.nan, math.nan]),
    "a scale of zero": ("BagDataModule.clinical.scale", [0.0, 0.0]),
    "clinical columns": ("BagDataModule.clinical.columns", {"age": 3}),
    "other columns": ("BagDataModule.schema", {"a": 1}),
    "features of nothing": ("BagDataModule.features", scaling([], [], [])),
    "features of two widths": ("BagDataModule.features", scaling(["a"], [1.0, 2.0], [1.0])),
    "features where none are": ("BagDataModule.features", scaling(["a"], [1.0], [1.0])),
    "ranges of others": ("BagDataModule.ranges", {"x": {"missing": 0.0, "categories": ["a"]}}),
    "ranges of text": ("BagDataModule.ranges", {"age": {"missing": 0.0, "categories": ["a"]}}),
    "an image size": ("BagDataModule.image_size", "large"),
}


@pytest.mark.parametrize("name", few(VALUES, "a target of the model", "clinical of NaN"))
def test_changed_content_is_one_line(name, run, predict_is_refused):
    """changed hyper-parameters, weights or scaling of a checkpoint: targets, giants, paths and
    others → one line, exit code 2; nothing is built, called, opened or allocated"""
    tamper(run, *VALUES[name])
    predict_is_refused()
    assert not Path("fired").exists()


STATES = {
    "no optimiser": ("optimizer_states", []),
    "another optimiser": ("optimizer_states", [{"state": {}, "param_groups": []}]),
    "a history of formulas": ("callbacks.History.rows", [{"=1+1": 1.0}]),
    "no selected epoch": ("callbacks.SaveEpoch", {"selected_epoch": "x", "selected_loss": 0.0}),
    "no callbacks": ("callbacks", 3),
    "weights of another shape": ("state_dict", {"model.fusion.head.weight": torch.zeros(3, 3)}),
}


@pytest.mark.parametrize("name", few(STATES, "another optimiser", "a history of formulas"))
def test_a_changed_state_is_not_resumed(name, run, resume_is_refused):
    """a changed state of optimiser or callbacks → one line on resuming; the fold is not done"""
    tamper(run, *STATES[name])
    resume_is_refused()


@pytest.mark.parametrize("name", few(FILES, "legacy", "bomb", "a giant tensor"))
def test_other_formats_are_refused(name, run, predict_is_refused, resume_is_refused):
    """bombs, legacy, truncated and other formats as checkpoint or weights → one line before
    anything is unpacked"""
    content = FILES[name]()
    tamper(run, content=content)
    predict_is_refused()
    resume_is_refused()
    Path("weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pt"):
        load_weights(torch.nn.Linear(2, 2), Path("weights.pt"))
    assert not Path("fired").exists()


@pytest.mark.parametrize("place", ["fold-0/last.ckpt", "fold-1", "test", "config.yaml"])
def test_a_run_folder_reaches_no_other_place(place, run, cohort, tmp_path, capsys):
    """a link to elsewhere in a run folder that was sent → one line, exit code 2; its target is
    neither read nor written"""
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
