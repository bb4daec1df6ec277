"""An exported model: the run's answers without torch, or a refusal"""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.deploy import export as exporting
from lymphoml.deploy import quantize
from lymphoml.deploy.runtime import ExportedModel
from lymphoml.runs.checksums import SUMS, write_checksums
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import ROOT, cost, files, refused

VALUES = {"age": 60.0, "lymphocyte_count": 9.1}


def places(cohort, folder):
    return [f"data.root={cohort}", f"data.cache={folder / 'cache'}"]


@pytest.fixture(scope="session")
def clinical_model(clinical_run, cohort, tmp_path_factory):
    """A model of clinical values alone, which is exported in seconds, beside its run."""
    folder = tmp_path_factory.mktemp("clinical_model")
    shutil.copytree(clinical_run, folder / "run")
    main(["triage", f"run={folder / 'run'}", "sensitivity=0.5"])
    main(["export", f"run={folder / 'run'}", f"out={folder / 'model'}", *places(cohort, folder)])
    return folder


@pytest.fixture(scope="session")
def exported(two_runs, cohort, tmp_path_factory):
    """A network on pixels, twice exported, beside its run."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(two_runs, folder, dirs_exist_ok=True)
    for name in ("model", "again"):
        words = [f"run={folder / 'run'}", f"out={folder / name}", *places(cohort, folder)]
        main(["export", *words])
    return folder


@pytest.mark.parametrize("made", [
    "clinical_model", pytest.param("exported", marks=pytest.mark.slow),
])  # fmt: skip
def test_an_exported_model_predicts_as_its_run(made, cohort, request):
    """predict.py with a model exported from a run of clinical values, or from a network on pixels →
    the run's predictions.csv at 32-true, triage and reasons included, to 1e-6"""
    folder = request.getfixturevalue(made)
    words = [*places(cohort, folder), "patients=unlabelled"]
    main(["predict", f"model={folder / 'model'}", f"out={folder / 'by-model'}", *words])
    main(["predict", f"run={folder / 'run'}", "trainer.precision=32-true", *words])
    by_model, by_run = (folder / name for name in ("by-model", "run/test"))
    own, of_run = (pd.read_csv(each / "predictions.csv") for each in (by_model, by_run))
    assert "triage" in own
    pd.testing.assert_frame_equal(own, of_run, atol=1e-6)
    submissions = {(each / "submission.csv").read_text() for each in (by_model, by_run)}
    assert len(submissions) == 1


@pytest.mark.slow
def test_no_torch_is_imported(exported, cohort):
    """an environment without torch, scipy and hydra → an exported model predicts, in 150 MB"""
    words = [f"model={exported / 'model'}", f"out={exported / 'lean'}", *places(cohort, exported)]
    code = f"""
import sys
sys.modules |= dict.fromkeys(["torch", "scipy", "hydra", "sklearn", "matplotlib"])  # cannot be had
sys.path.insert(0, {str(ROOT)!r})
def attack():
    from lymphoml.cli.main import main
    main(["predict", *{words!r}])
"""
    memory, seconds = cost(code, exported)
    assert memory < 150
    assert seconds < 5
    assert (exported / "lean" / "predictions.csv").exists()


@pytest.mark.slow
def test_two_exports_are_the_same_bytes_and_name_nobody(exported, cohort):
    """an exported folder → the same bytes each time; no path, patient, stack trace or user in it"""
    first, second = (
        {Path(name).name: each for name, each in files(exported / folder).items()}
        for folder in ("model", "again")
    )
    assert first == second
    ids = pd.read_csv(exported / "run" / "folds.csv")["patient"].tolist()
    names = [path.name for path in Path(cohort).rglob("*.*") if path.is_file()]
    content = b"\n".join(first.values())
    for text in (str(exported), str(ROOT), "site-packages", ".py:", os.path.expanduser("~")):
        assert text.encode() not in content
    texts = b"\n".join(each for name, each in first.items() if name.endswith((".json", ".md")))
    for name in (*ids, *names):
        assert not re.search(rb"\b" + re.escape(name.encode()) + rb"\b", texts), name


@pytest.mark.slow
def test_what_a_graph_would_answer_is_refused(exported):
    """no image, NaN, a count of 0, a missing value given to an exported model → a line"""
    model, image = ExportedModel(exported / "model"), np.zeros((32, 32, 3), np.uint8)
    assert 0 < model.predict([image], VALUES).probability < 1
    for images, values, says in (
        ([], VALUES, "there is no image"),
        ([image[:31]], VALUES, "an image: 32 x 31 pixels, in training 32 x 32"),
        ([image / 255], VALUES, "must be uint8"),
        ([image], VALUES | {"lymphocyte_count": 0.0}, "lymphocyte_count=0.0: must be above 0"),
        ([image], VALUES | {"lymphocyte_count": -3}, "must be above 0"),
        ([image], VALUES | {"age": np.inf}, "age=inf: must be a finite number"),
        ([image], VALUES | {"age": np.nan}, "age is missing"),
        ([image], {"age": 60.0}, "lymphocyte_count is missing"),
        ([image], VALUES | {"lymphocyte_cuont": 9.0}, "lymphocyte_cuont: the model's clinical"),
        ([image], VALUES | {"age": "old"}, "age=old: must be a finite number"),
    ):
        with pytest.raises(InputError, match=says):
            model.predict(images, values)


def test_the_card_is_one_that_hugging_face_reads(clinical_model):
    """an exported folder's README.md read by huggingface_hub offline → scores with intervals,
    subgroups, calibration, a picture, "not a medical device", and no patient"""
    card = ModelCard.load(clinical_model / "model" / "README.md")
    metrics = json.loads((clinical_model / "run" / "metrics.json").read_text())
    found = {each.metric_type: each.metric_value for each in card.data.eval_results}
    assert found["roc_auc"] == round(metrics["auroc"]["value"], 4)
    assert card.data.library_name == "onnx"
    low, high = (f"{metrics['auroc'][key]:.2f}" for key in ("low", "high"))
    assert f"[{low}, {high}]" in card.text
    for part in ("Not a medical device", "## Subgroups", "## Calibration", "calibration.png"):
        assert part in card.text
    with Image.open(clinical_model / "model" / "calibration.png") as picture:
        assert picture.size == (480, 480)
    for patient in pd.read_csv(clinical_model / "run" / "folds.csv")["patient"]:
        assert not re.search(rf"\b{patient}\b", card.content)


@pytest.mark.parametrize(("change", "says"), [
    (lambda model: None, "give a folder for the predictions"),
    (lambda model: None, "is within the model, which may be shared"),
    (lambda model: (model / "head.onnx").write_bytes(b"graph"), "head.onnx: is not as it was exp"),
    (lambda model: _write(model, folds=["0"]), "folds.0=0: must be a whole number"),
    (lambda model: _write(model, folds=[7]), "has other folds"),
    (lambda model: (model / "more.onnx").write_bytes(b""), "more.onnx: is not as it was exported"),
    (lambda model: _write(model, format=2), "its format is 2; this version reads format 1"),
    (lambda model: shutil.rmtree(model), "Give a folder of export"),
    (lambda model: (model / "head.onnx").symlink_to("/etc/passwd"), "is a link"),
])  # fmt: skip
def test_a_changed_folder_is_refused(clinical_model, cohort, tmp_path, capsys, change, says):
    """an exported folder that was changed, is damaged, of another format, or holds a link; no out=,
    or one in the model → one line, exit code 2, nothing written"""
    model = tmp_path / "model"
    shutil.copytree(clinical_model / "model", model)
    if "link" in says:
        (model / "head.onnx").unlink()
    change(model)
    out = [] if "give a folder" in says else [f"out={tmp_path / 'out'}"]
    if "within" in says:
        out = [f"out={model / 'out'}"]
    words = ["predict", f"model={model}", *out, *places(cohort, clinical_model)]
    assert says in refused(capsys, *words)
    assert not [*tmp_path.rglob("out")]


def _write(model, **changes):
    config = json.loads((model / "config.json").read_text()) | changes
    (model / "config.json").write_text(json.dumps(config))
    write_checksums(model, [each.name for each in model.iterdir() if each.name != SUMS])


def test_what_is_not_exported_is_a_line(clinical_model, cohort, tmp_path, capsys, monkeypatch):
    """graphs whose answers for real bags are not the run's, a folder that exists; quantize=int8 of
    a model that looks at no pixels, or another word; no patient with a label → one line, exit
    code 2, nothing written"""
    model = clinical_model / "model"
    copied = lambda folds, folder: shutil.copytree(model, folder, dirs_exist_ok=True)  # noqa: E731
    monkeypatch.setattr(exporting, "write_graphs", copied)
    words = ["export", f"run={clinical_model / 'run'}", *places(cohort, clinical_model)]
    assert "exists; give another" in refused(capsys, *words, f"out={model}")
    words.append(f"out={tmp_path / 'model'}")
    assert "no network that looks at pixels" in refused(capsys, *words, "quantize=int8")
    assert "quantize=int4: must be int8" in refused(capsys, *words, "quantize=int4")
    monkeypatch.setattr(exporting, "PARITY", -1.0)
    assert "differ from it by" in refused(capsys, *words)
    unknown = "data.label_values={'0':-1,'1':-1}"
    assert "no patient has a label" in refused(capsys, *words, unknown)
    assert not any(tmp_path.iterdir())


def test_other_clinical_values_are_refused(clinical_model, cohort, tmp_path, capsys):
    """settings by which a clinical value means something else than in training → one line"""
    words = ["predict", f"model={clinical_model / 'model'}", *places(cohort, clinical_model)]
    words += [f"out={tmp_path / 'out'}", "data.columns.age.calendar_years=true"]
    assert "data.columns.age: calendar_years differs" in refused(capsys, *words)


def test_a_rule_out_is_a_decision():
    probability = pd.Series([0.02, 0.05 - 1e-9, 0.3, 0.6])
    found = quantize._decisions(probability, {"threshold": 0.05})
    assert found["tumoral"].tolist() == [False, False, False, True]
    assert found["ruled_out"].tolist() == [True, False, False, False]  # the second sets the rule
    assert list(quantize._decisions(probability, None)) == ["tumoral"]


@pytest.mark.slow
def test_changed_decisions_of_8_bits_are_refused(exported, cohort, tmp_path, capsys, monkeypatch):
    """quantize=int8 changes a held-out decision → refused with their number, nothing written;
    accept_changes=true writes smaller encoders, and what they change into the card"""
    words = ["export", f"run={exported / 'run'}", *places(cohort, exported), "quantize=int8"]
    copied = lambda *to: shutil.copytree(exported / "model", to[1], dirs_exist_ok=True)  # noqa: E731
    monkeypatch.setattr(exporting, "write_graphs", copied)
    main([*words, f"out={tmp_path / 'small'}", "accept_changes=true"])
    found = json.loads((tmp_path / "small" / "config.json").read_text())["quantized"]
    assert found["patients"] == 16 - 8
    assert 0 < found["largest_difference"] < 0.1
    card = (tmp_path / "small" / "README.md").read_text()
    assert f"changes {found['changed_decisions']} of 8 decisions" in card
    small, whole = (each / "encoder.onnx" for each in (tmp_path / "small", exported / "model"))
    assert small.stat().st_size < 0.4 * whole.stat().st_size
    assert str(tmp_path).encode() not in small.read_bytes()
    judged = pd.DataFrame({"patient": ["A", "B"], "fold": 0, "label": [0, 1],
                           "before": [0.4, 0.6], "after": [0.4, 0.4]})  # fmt: skip
    monkeypatch.setattr(quantize, "_judge", lambda *_: judged)
    assert "changes 1 of 2 decisions" in refused(capsys, *words, f"out={tmp_path / 'no'}")
    assert not (tmp_path / "no").exists()
    main([*words, f"out={tmp_path / 'yes'}", "accept_changes=true"])
    assert ExportedModel(tmp_path / "yes").config["quantized"]["auroc"] == [1.0, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "says"), [
    (["data.eval_bag_size=2"], "data.eval_bag_size=2 draws images at random"),
    (["data.stain_norm=reinhard"], "data.stain_norm=reinhard is fitted to each patient"),
])  # fmt: skip
def test_what_cannot_be_exported_is_named(configured, cohort, tmp_path, capsys, words, says):
    """a run whose images are drawn at random or stain-normalized by patient → refused by name"""
    cross_validate(configured("trainer.max_epochs=1", *words), tmp_path / "run")
    words = ["export", f"run={tmp_path / 'run'}", f"out={tmp_path / 'model'}"]
    assert says in refused(capsys, *words, *places(cohort, tmp_path))
    assert not (tmp_path / "model").exists()
    if "eval_bag_size" in says:
        images = next((cohort / "testset").glob("*/"))
        words = ["predict", words[1], f"images={images}", "age=60", "lymphocyte_count=9"]
        assert "draws images by the patient's id" in refused(capsys, *words)
