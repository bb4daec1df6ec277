"""Bags of rows through a whole job: the same promises as bags of pixels."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from lymphoml.cli.config import run_config, validate
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.features.instance_store import open_instance_store
from lymphoml.features.morphology import NAMES
from lymphoml.models.encoders import FeatureEncoder
from lymphoml.runs import cross_validation as training
from lymphoml.runs.predict import predict
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import load_checkpoint

CONF = Path(__file__).parents[2] / "conf"
TINY = ["data=synthetic", "logger=none", "data.folds=2", "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false", "trainer.num_threads=1"]  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=20, test_patients=3, images=(2, 5), size=32, seed=0)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def configured(cohort, cache):
    def compose_with(*overrides):
        words = [*TINY, f"data.root={cohort}", f"data.cache={cache}", *overrides]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return validate(compose("train", overrides=words))

    return compose_with


@pytest.fixture(scope="module")
def file(cohort, cache, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.npz"
    main(["features", "cohort=synthetic", f"data.root={cohort}", f"data.cache={cache}",
          f"out={path}"])  # fmt: skip
    return path


def same(one, other, *names):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


SCORES = ("predictions.csv", "metrics.json", "baselines.csv", "fold-0/instances.csv")


def test_a_run_on_measured_cells_is_scored_and_predicts_new_patients(
    configured, cohort, cache, tmp_path
):
    training.cross_validate(
        configured("experiment=morphology", "trainer.max_epochs=1"), tmp_path / "run"
    )
    run = tmp_path / "run"
    baselines = pd.read_csv(run / "baselines.csv")
    assert {"morphology", "random_features", "logistic_regression"} <= set(baselines)
    instances = pd.read_csv(run / "fold-0" / "instances.csv")
    for patient, rows in instances.groupby("patient"):
        names = {path.name for path in (cohort / "trainset" / patient).iterdir()}
        assert set(rows["image"]) == names
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["encoder"]["dim"] == 38
    config = run_config(run, {"root": str(cohort), "cache": str(cache)}, {})
    table = predict(run, {run: config}, tmp_path / "test", "unlabelled", ("ID", "LABEL"))
    assert len(table) == 3
    assert table["probability"].between(0, 1).all()


def test_rows_of_a_file_give_what_the_same_rows_measured_give(configured, file, tmp_path):
    words = ("optim=adamw", "lr=1e-3", "data.image_baselines=[]")
    measured, read = tmp_path / "measured", tmp_path / "read"
    training.cross_validate(configured("model/encoder=morphology", *words), measured)
    given = configured("model/encoder=features", f"data.features={file}", *words)
    training.cross_validate(given, read)
    assert same(measured, read, *SCORES)


def test_rows_of_two_kinds_stand_side_by_side(configured, cohort):
    """Each as by itself, in the order that they are named in."""

    def opened(encoder):
        config = configured(f"model/encoder={encoder}")
        images = load_cohort(config["data"]).images
        return images, open_instance_store(config["model"], config["data"], images)[0]

    images, both = opened("cells")
    parts = [opened(encoder)[1] for encoder in ("morphology", "random_features")]
    assert both.names == [name for part in parts for name in part.names]
    for patient in images:
        beside = np.hstack([part.bag(patient) for part in parts])
        assert np.array_equal(both.bag(patient), beside)


def test_parts_that_are_alike_count_alike_whatever_their_width():
    widths = (38, 512)
    rows = FeatureEncoder("morphology+untrained", sum(widths), alike=True, widths=widths)
    seen = rows(torch.ones(1, sum(widths)))[0].square()
    parts = [part.sum().item() for part in seen.split(widths)]
    assert parts == pytest.approx([275, 275])  # of 550 features, as without weights
    assert torch.equal(FeatureEncoder("untrained", 3)(torch.ones(1, 3)), torch.ones(1, 3))


def test_best_is_fitted_to_the_training_patients_alone(configured, cohort, tmp_path):
    """Whatever the held-out patients are called, their probabilities stay what they were."""
    words = ("experiment=best", "data.image_baselines=[]", "trainer.max_epochs=1", "fold=0")
    training.cross_validate(configured(*words), tmp_path / "run")
    folds = pd.read_csv(tmp_path / "run" / "folds.csv", dtype=str)
    shutil.copytree(cohort, tmp_path / "other")
    table = tmp_path / "other" / "trainset" / "trainset_true.csv"
    clinical = pd.read_csv(table, dtype=str)
    held_out = clinical["ID"].isin(folds["patient"][folds["fold"] == "0"])
    assert held_out.sum() == 10
    clinical.loc[held_out, "LABEL"] = clinical.loc[held_out, "LABEL"].map({"0": "1", "1": "0"})
    clinical.to_csv(table, index=False)
    given = f"data.folds_csv={tmp_path / 'run' / 'folds.csv'}"
    config = configured(*words, given, f"data.root={tmp_path / 'other'}")
    training.cross_validate(config, tmp_path / "relabelled")
    one, other = (
        pd.read_csv(tmp_path / name / "fold-0" / "predictions.csv")
        for name in ("run", "relabelled")
    )
    assert one["probability"].tolist() == other["probability"].tolist()
    assert (one["label"] + other["label"] == 1).all()
    history = pd.read_csv(tmp_path / "run" / "fold-0" / "history.csv")
    assert len(history) == 1
    assert history["train/loss"].between(0, 1).all()


def test_a_model_that_does_not_fit_together_is_refused(configured, file, tmp_path):
    with pytest.raises(InputError, match="these learn; take model/fusion=additive"):
        training.cross_validate(configured("model/fusion=additive_fitted"), tmp_path / "run")
    one = ("model/encoder=feature_network", "model.encoder.hidden=[4,1]", "model/fusion=none")
    with pytest.raises(InputError, match="one number an image, which this fusion takes for a log"):
        training.cross_validate(configured(*one, f"data.features={file}"), tmp_path / "run")
    words = ("model/encoder=cells", "model.encoder.rows=morphology", "model.encoder.seed=1")
    with pytest.raises(InputError, match=r"seed=1: there are no rows of an untrained network"):
        training.cross_validate(configured(*words), tmp_path / "run")
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_another_seed_is_another_untrained_network_and_nothing_else(configured, cohort):
    def opened(seed):
        config = configured("model/encoder=cells", f"model.encoder.seed={seed}")
        images = load_cohort(config["data"]).images
        store, _ = open_instance_store(config["model"], config["data"], images)
        return np.concatenate([store.bag(patient) for patient in images])

    one, other = opened(0), opened(1)
    assert np.array_equal(one[:, :38], other[:, :38])
    assert np.abs(one[:, 38:] - other[:, 38:]).mean() > 1e-3


def test_folds_of_other_untrained_networks_do_not_predict_together(
    configured, cohort, cache, tmp_path
):
    run, words = tmp_path / "run", ["model/encoder=cells", "data.image_baselines=[]"]
    training.cross_validate(configured(*words, "fold=0"), run)
    drifted = ["model.encoder.seed=1", "resume.allow_changes=true"]
    training.cross_validate(configured(*words, "fold=1", *drifted), run)
    config = run_config(run, {"root": str(cohort), "cache": str(cache)}, {})
    with pytest.raises(InputError, match=r"model\.encoder\.seed changed while it was trained"):
        predict(run, {run: config}, tmp_path / "test", "unlabelled", ("ID", "LABEL"))


def test_networks_side_by_side_are_one_part_and_another_seed_has_others(configured, cohort):
    """networks=2 seed=1 are networks 2 and 3, each as it is by itself."""

    def opened(rows, *words):
        config = configured("model/encoder=cells", f"model.encoder.rows={rows}", *words)
        images = load_cohort(config["data"]).images
        return images, open_instance_store(config["model"], config["data"], images)[0]

    both = "morphology+untrained+untrained_layer3"
    images, store = opened(both, "model.encoder.num_networks=2", "model.encoder.seed=1")
    assert store.widths == [38, 2 * 512, 2 * 256]
    assert len(set(store.names)) == len(store.names)
    alone = [
        opened(rows, f"model.encoder.seed={seed}")[1]
        for rows in ("untrained", "untrained_layer3")
        for seed in (2, 3)
    ]
    for patient in images:
        beside = np.hstack([part.bag(patient) for part in alone])
        assert np.array_equal(store.bag(patient)[:, 38:], beside)


def test_scaling_knows_the_training_patients_alone_and_travels(configured, file, tmp_path):
    words = ("model/encoder=features", "fold=0", "data.image_baselines=[]")
    training.cross_validate(configured(*words, f"data.features={file}"), tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "fold-0" / "last.ckpt")["BagDataModule"]["features"]
    folds = pd.read_csv(tmp_path / "run" / "folds.csv")
    arrays = np.load(file)
    train = np.isin(arrays["patient"], folds["patient"][folds["fold"] != 0])
    expected = arrays["features"][train].mean(axis=0)
    assert state["names"] == list(NAMES)
    assert state["mean"] == pytest.approx(expected.tolist(), rel=1e-4)


def test_an_interrupted_run_on_rows_ends_in_the_same_bytes(configured, tmp_path, monkeypatch):
    def killed(history, trainer, module):
        if trainer.current_epoch == 1:
            raise RuntimeError("killed")
        real(history, trainer, module)

    def run(name):
        training.cross_validate(configured(*words), tmp_path / name)

    words = ("experiment=trained_linear", "trainer.max_epochs=3", "data.train_bag_size=3",
             "data.image_baselines=[]")  # fmt: skip
    real = History.on_train_epoch_end
    run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(History, "on_train_epoch_end", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run("killed")
    assert (tmp_path / "killed" / "fold-0" / "last.ckpt").exists()
    assert not (tmp_path / "killed" / "fold-0" / "done.json").exists()
    run("killed")
    assert same(tmp_path / "whole", tmp_path / "killed", *SCORES)


def test_a_file_of_other_columns_is_refused_by_the_run(configured, cohort, file, tmp_path):
    words = ("model/encoder=features", "data.image_baselines=[]")
    run = tmp_path / "run"
    training.cross_validate(configured(*words, f"data.features={file}"), run)
    arrays = dict(np.load(file))
    arrays["names"] = np.array([f"other_{name}" for name in arrays["names"]])
    np.savez(tmp_path / "other.npz", **arrays)
    config = run_config(run, {"root": str(cohort)}, {})
    with pytest.raises(InputError, match=r"needs data\.features=FILE"):  # it does not tell where
        predict(run, {run: config}, tmp_path / "test", "unlabelled", ("ID", "LABEL"))
    given = {"root": str(cohort), "features": str(tmp_path / "other.npz")}
    config = run_config(run, given, {})
    with pytest.raises(InputError, match="other features than"):
        predict(run, {run: config}, tmp_path / "test", "unlabelled", ("ID", "LABEL"))


def test_an_ensemble_hands_a_file_to_the_members_that_learned_from_one(
    configured, cohort, cache, file, tmp_path
):
    rows = f"data.features={file}"
    words = [["model/encoder=features", rows], ["model/encoder=morphology"]]
    runs = [tmp_path / "runs" / name for name in ("file", "morphology")]
    for run, own in zip(runs, words, strict=True):
        training.cross_validate(configured(*own, "data.image_baselines=[]"), run)
    both = tmp_path / "runs" / "both"
    main(["ensemble", f"runs=[{runs[0]},{runs[1]}]", f"out={both}"])
    main(["predict", f"run={both}", f"data.root={cohort}", f"data.cache={cache}", rows])
    assert len(pd.read_csv(both / "test" / "predictions.csv")) == 3


def test_a_changed_row_is_not_the_run_that_was_begun(configured, file, tmp_path):
    words = ("model/encoder=features", "fold=0", "data.image_baselines=[]")
    mine = tmp_path / "rows.npz"
    shutil.copy(file, mine)
    training.cross_validate(configured(*words, f"data.features={mine}"), tmp_path / "run")
    arrays = dict(np.load(file))
    arrays["features"][0, 0] += 1
    np.savez(mine, **arrays)
    with pytest.raises(InputError, match="have changed since"):
        training.cross_validate(configured(*words, f"data.features={mine}"), tmp_path / "run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model/encoder=features"], r"needs data\.features=FILE"),
        (["data.features=rows.csv"], r"is read by model/encoder=features alone"),
        (["model/encoder=features", "data.features=no.csv"], r"no\.csv"),
        (["model/encoder=morphology", "model.encoder.rows=words"], r"rows=words: allowed are"),
        (["model/encoder=cells", "model.encoder.rows=file+untrained"], r"allowed are file, morph"),
        (["model/encoder=cells", "model.encoder.rows=untrained+untrained"], r"and morphology\+un"),
        (["model/encoder=cells", "model.encoder.num_networks=0"], r"networks=0: allowed are whole"),
        (
            ["model/encoder=cells", "model.encoder.seed=x"],
            r"seed=x: allowed are whole numbers",
        ),
        (["experiment=best", "model.encoder.rows=morphology"], r"networks=3: there are no rows of"),
        (["data.image_baselines=[colour]"], r"image_baselines: colour; allowed are"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(configured, tmp_path, words, said):
    with pytest.raises(InputError, match=said):
        training.cross_validate(configured(*words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_baselines_that_cannot_be_measured_are_left_out(configured, tmp_path, monkeypatch, capsys):
    def failing(*_):
        raise InputError("no room")

    monkeypatch.setattr("lymphoml.runs.aggregate.baseline_features", failing)
    training.cross_validate(configured("model/encoder=morphology"), tmp_path / "run")
    assert "baselines of images are left out: no room" in capsys.readouterr().out
    assert "morphology" not in pd.read_csv(tmp_path / "run" / "baselines.csv")


def test_a_run_without_images_has_no_image_baselines(configured, tmp_path):
    training.cross_validate(configured("model/fusion=clinical"), tmp_path / "run")
    assert "morphology" not in pd.read_csv(tmp_path / "run" / "baselines.csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["out=rows.txt"], r"rows\.txt: allowed are files that end in"),
        (["encoder=resnet19"], r"encoder=resnet19: choose untrained"),
        (["encoder=features"], r"encoder=features: choose untrained"),
        (["weights=w.pt"], r"encoder=morphology: has no setting weights"),
        (["encoder=resnet18", "weights=none.pt"], r"none\.pt does not exist"),
        (["data.stain_norm=macenko"], r"data\.stain_norm=macenko: encoder=morphology takes images"),
        (["encoder=untrained", "data.stain_norm=reinhard"], r"encoder=untrained takes images as"),
        (["data.crop=64"], r"data.crop=64: encoder=morphology takes images as they lie"),
    ],
)
def test_the_command_refuses_in_a_line(cohort, cache, words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["features", "cohort=synthetic", f"data.root={cohort}", f"data.cache={cache}", *words])
    assert stopped.value.code == 2
    told = capsys.readouterr().err.strip()
    assert re.search(said, told)
    assert len(told.splitlines()) == 1


def test_a_cohorts_own_crop_is_for_networks(cohort, cache, tmp_path, monkeypatch):
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("defaults: [synthetic]\ncrop: 24\n")
    monkeypatch.setattr("lymphoml.cli.config.CONF", tmp_path / "conf")
    out = tmp_path / "rows.npz"
    main(["features", "cohort=mine", f"data.root={cohort}", f"data.cache={cache}", f"out={out}"])
    assert np.load(out)["features"].shape[1] == len(NAMES)


def test_the_command_writes_nothing_into_the_cohort(cohort, cache, capsys):
    out = cohort / "rows.csv"
    with pytest.raises(SystemExit):
        main(["features", "cohort=synthetic", f"data.root={cohort}", f"data.cache={cache}",
              f"out={out}"])  # fmt: skip
    assert not out.exists()
