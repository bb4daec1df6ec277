"""Bags of feature vectors through a whole run: the same promises as bags of pixels."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lymphoml.cli.config import compose_config, run_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort
from lymphoml.data.feature_store import FeatureScaler, FeatureStore
from lymphoml.features.instance_store import open_instance_store
from lymphoml.features.morphology import NAMES
from lymphoml.runs import cross_validation as training
from lymphoml.runs.predict import predict
from lymphoml.training.checkpoint import load_checkpoint
from tests.promises.jobs import TINY, refused

pytestmark = pytest.mark.usefixtures("few_trees")
MORPHOLOGY = ("model/encoder=identity", "data/features=morphology")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def configured(cohort, cache):
    def compose_with(*overrides):
        places = f"data.root={cohort}", f"data.cache={cache}"
        return compose_config(*TINY, "trainer.max_epochs=1", *places, *overrides)

    return compose_with


@pytest.fixture
def store(configured):
    def opened(*overrides):
        config = configured("model/encoder=identity", *overrides)
        images = load_cohort(config.data).images
        return images, open_instance_store(config.data, images)[0]

    return opened


@pytest.fixture(scope="module")
def file(cohort, cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "features.npz"
    main(["features", "cohort=synthetic", f"data.root={cohort}", f"data.cache={cache}",
          f"out={path}"])  # fmt: skip
    return path


def given(file):
    return ["model/encoder=identity", "data/features=file", f"data.features.path={file}"]


def predicted(run, config, tmp_path):
    return predict(run, {run: config}, tmp_path / "test", "unlabelled", ("ID", "LABEL"))


def test_a_run_on_measured_cells_has_baselines_of_images(configured, tmp_path):
    baselines = "data.image_baselines=[morphology,random_features]"
    training.cross_validate(configured("experiment=morphology", baselines), tmp_path / "run")
    columns = pd.read_csv(tmp_path / "run" / "baselines.csv")
    assert {"morphology", "random_features", "logistic_regression"} <= set(columns)


def test_features_of_a_file_give_what_the_same_features_computed_give(
    configured, cohort, cache, file, tmp_path
):
    measured, read, both = (tmp_path / "runs" / name for name in ("measured", "read", "both"))
    training.cross_validate(configured(*MORPHOLOGY, "optim=adamw"), measured)
    training.cross_validate(configured(*given(file), "optim=adamw"), read)
    for name in ("predictions.csv", "metrics.json", "baselines.csv", "fold-0/instances.csv"):
        assert (measured / name).read_bytes() == (read / name).read_bytes()
    # An ensemble gives a file to the members that learned from one.
    main(["ensemble", f"runs=[{measured},{read}]", f"out={both}"])
    main(["predict", f"run={both}", f"data.root={cohort}", f"data.cache={cache}",
          f"data.features.path={file}"])  # fmt: skip
    assert len(pd.read_csv(both / "test" / "predictions.csv")) == 3


@pytest.mark.slow
def test_blocks_of_several_networks_are_each_as_by_itself(store):
    """num_networks=2 seed=1 are networks 2 and 3."""
    images, both = store("data/features=cells", "data.features.num_networks=2",
                         "data.features.seed=1")  # fmt: skip
    assert both.widths == [38, 2 * 512, 2 * 256]
    assert len(set(both.names)) == len(both.names)
    alone = [store("data/features=morphology")[1]]
    for name in ("random_resnet18", "random_resnet18_layer3"):
        for seed in (2, 3):
            block = [f"data.features.blocks=[{name}]", f"data.features.seed={seed}"]
            alone.append(store("data/features=random_resnet18", *block)[1])
    for patient in images:
        expected = np.hstack([each.bag(patient) for each in alone])
        assert np.array_equal(both.bag(patient), expected)


def test_balanced_blocks_count_alike_whatever_their_width():
    rows = np.random.default_rng(0).normal(3, 2, (500, 550)).astype(np.float32)
    store = FeatureStore({"P1": rows}, [str(column) for column in range(550)], (38, 512))
    for balance, expected in ((False, [38, 512]), (True, [275, 275])):
        variances = FeatureScaler.fit(store, ["P1"], balance)(torch.from_numpy(rows)).var(0)
        parts = [part.sum().item() for part in variances.split((38, 512))]
        assert parts == pytest.approx(expected, rel=5e-3)


def test_best_is_fitted_to_the_training_patients_alone(configured, cohort, tmp_path):
    """Whatever the held-out patients are called, their probabilities stay what they were."""
    words = ("experiment=best", "data.features.num_networks=1", "fold=0")
    training.cross_validate(configured(*words), tmp_path / "run")
    folds = pd.read_csv(tmp_path / "run" / "folds.csv", dtype=str)
    shutil.copytree(cohort, tmp_path / "other")
    table = tmp_path / "other" / "trainset" / "trainset_true.csv"
    clinical = pd.read_csv(table, dtype=str)
    held_out = clinical["ID"].isin(folds["patient"][folds["fold"] == "0"])
    assert held_out.sum() == 8
    clinical.loc[held_out, "LABEL"] = clinical.loc[held_out, "LABEL"].map({"0": "1", "1": "0"})
    clinical.to_csv(table, index=False)
    folds_csv = f"data.folds_csv={tmp_path / 'run' / 'folds.csv'}"
    config = configured(*words, folds_csv, f"data.root={tmp_path / 'other'}")
    training.cross_validate(config, tmp_path / "relabelled")
    one, other = (
        pd.read_csv(tmp_path / name / "fold-0" / "predictions.csv")
        for name in ("run", "relabelled")
    )
    assert one["probability"].tolist() == other["probability"].tolist()
    assert (one["label"] + other["label"] == 1).all()


def test_scaling_is_fitted_to_the_training_patients_and_travels(configured, file, tmp_path):
    training.cross_validate(configured(*given(file), "fold=0"), tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "fold-0" / "last.ckpt")["BagDataModule"]["features"]
    folds = pd.read_csv(tmp_path / "run" / "folds.csv")
    with np.load(file) as arrays:
        train = np.isin(arrays["patient"], folds["patient"][folds["fold"] != 0])
        expected = arrays["features"][train].mean(axis=0)
    assert state["names"] == list(NAMES)
    assert state["mean"] == pytest.approx(expected.tolist(), rel=1e-4)


def test_another_file_is_refused(configured, cohort, file, tmp_path):
    run, mine = tmp_path / "run", tmp_path / "mine.npz"
    shutil.copy(file, mine)
    training.cross_validate(configured(*given(mine)), run)
    with np.load(file) as stored:
        arrays = dict(stored)
    names = np.array([f"other_{name}" for name in arrays["names"]])
    np.savez(tmp_path / "other.npz", **arrays | {"names": names})
    path = {"features": {"path": str(tmp_path / "other.npz")}}
    config = run_config(run, {"root": str(cohort), **path}, {})
    with pytest.raises(InputError, match="its features differ from those"):
        predicted(run, config, tmp_path)
    arrays["features"][0, 0] += 1
    np.savez(mine, **arrays)
    with pytest.raises(InputError, match="changed"):
        training.cross_validate(configured(*given(mine)), run)


@pytest.mark.parametrize(("words", "message"), [
    (["model/encoder=identity"], r"takes feature vectors; set data/features"),
    (["data/features=morphology"], r"model\.encoder: must be identity or mlp"),
    (given("no.csv"), r"no\.csv"),
    ([*MORPHOLOGY, "data.features.blocks=[words]"], r"must be one of morphology"),
    ([*MORPHOLOGY, "data.features.blocks=[morphology,morphology]"], r"be there once"),
    ([*MORPHOLOGY, "data.features.path=x.csv"], r"add data\.features\.blocks=\[\]"),
    ([*MORPHOLOGY, "data.features.seed=1"], r"seed=1: needs a random network"),
    ([*MORPHOLOGY, "data.augment.scale=0.1"], r"has no effect: this model uses no pixels"),
    (["data/features=cells", "data.features.num_networks=0"], r"num_networks=0: must be >= 1"),
    (["model/fusion=additive_fitted"], "Set model/fusion=additive"),
    ([*MORPHOLOGY, "model/encoder=mlp", "model.encoder.hidden=[4,1]", "model/fusion=none"],
     "one number an image"),
])  # fmt: skip
def test_what_does_not_fit_together_is_refused_before_a_folder_is_made(
    configured, tmp_path, words, message
):
    with pytest.raises(InputError, match=message):
        training.cross_validate(configured(*words), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_baselines_that_cannot_be_measured_are_left_out(configured, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise InputError("no room")

    monkeypatch.setattr("lymphoml.runs.aggregate.baseline_features", failing)
    training.cross_validate(configured(*MORPHOLOGY), tmp_path / "run")
    assert "no room" in capsys.readouterr().out
    assert "morphology" not in pd.read_csv(tmp_path / "run" / "baselines.csv")
    monkeypatch.undo()
    config = configured(*MORPHOLOGY, "data.image_baselines=[morphology]")
    training.cross_validate(config, tmp_path / "run")
    assert "finished, with data.image_baselines=[]; for [morph" in capsys.readouterr().out
    (tmp_path / "run" / "metrics.json").unlink()
    training.cross_validate(config, tmp_path / "run")
    assert "morphology" in pd.read_csv(tmp_path / "run" / "baselines.csv")
    # A run without images has none.
    config = configured("model/fusion=clinical", "data.image_baselines=[morphology]")
    training.cross_validate(config, tmp_path / "clinical")
    assert "morphology" not in pd.read_csv(tmp_path / "clinical" / "baselines.csv")


@pytest.mark.parametrize(("words", "message"), [
    (["out=rows.txt"], "rows.txt"),
    (["encoder=resnet19"], "encoder=resnet19: must be one of"),
    (["encoder=identity"], "encoder=identity: must be one of"),
    (["weights=w.pt"], "weights: has no effect with encoder=morphology"),
    (["encoder=resnet18", "weights=none.pt"], "none.pt does not exist"),
    (["encoder=random_resnet18", "data.crop=64"], "data.crop: has no effect"),
    (["out={root}/rows.csv"], "rows.csv"),  # into the cohort
])  # fmt: skip
def test_the_command_refuses_in_a_line(cohort, cache, words, message, capsys):
    words = [f"data.root={cohort}", f"data.cache={cache}", *(w.format(root=cohort) for w in words)]
    assert message in refused(capsys, "features", "cohort=synthetic", *words)
    assert not (cohort / "rows.csv").exists()


def test_a_cohorts_own_crop_is_for_networks(cohort, cache, tmp_path, monkeypatch):
    conf = Path(__file__).parents[2] / "conf"
    shutil.copytree(conf, tmp_path / "conf")
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [synthetic]\ncrop: 24\n")
    monkeypatch.setattr("lymphoml.cli.config.CONF", tmp_path / "conf")
    out = tmp_path / "features.npz"
    main(["features", "cohort=mine", f"data.root={cohort}", f"data.cache={cache}", f"out={out}"])
    with np.load(out) as arrays:
        assert arrays["features"].shape[1] == len(NAMES)
