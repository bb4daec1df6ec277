"""A whole job on a tiny cohort: what the run folder promises."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from lymphoml.core.errors import InputError
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import load_cohort
from lymphoml.data.folds import training_split
from lymphoml.models.build import build_model
from lymphoml.runs import cross_validation
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.prepare import prepare
from lymphoml.training import hardware
from lymphoml.training.checkpoint import load_checkpoint
from lymphoml.training.lightning_module import BagClassifier

ONE_EPOCH = ("fold=0", "trainer.max_epochs=1")
CLINICAL = ("model/fusion=clinical", "trainer.max_epochs=1")
RUN = ["baselines.csv", "config.yaml", "environment.json", "folds.csv", "metrics.json",
       "predictions.csv", "strata.csv"]  # fmt: skip
FOLD = ["done.json", "history.csv", "instances.csv", "last.ckpt", "last.ckpt.sha256",
        "predictions.csv", "trained_on.json"]  # fmt: skip
SCORES = ["predictions.csv", "metrics.json", "folds.csv", "baselines.csv", "strata.csv",
          "fold-0/predictions.csv", "fold-0/instances.csv"]  # fmt: skip


def same_bytes(one, other, names=SCORES):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def history(folder, fold=0):
    return pd.read_csv(folder / f"fold-{fold}" / "history.csv").drop(columns="images_per_second")


def loss(predictions):
    p = predictions["probability"].clip(1e-7, 1 - 1e-7)
    return -np.where(predictions["label"] == 1, np.log(p), np.log(1 - p)).mean()


def test_run_folder_has_what_the_design_says_and_its_numbers_agree(
    configured, tmp_path, cohort, monkeypatch
):
    run = tmp_path / "run"
    value = cross_validate(configured(), run)
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory  # 9 % of the time at 32 pixels
    files = {str(p.relative_to(run)) for p in run.rglob("*")}
    assert files >= {*RUN, *(f"fold-{k}/{name}" for k in (0, 1) for name in FOLD)}
    predictions = pd.read_csv(run / "predictions.csv")
    assert list(predictions) == ["patient", "fold", "label", "probability"]
    assert predictions["patient"].nunique() == len(predictions) == 16
    metrics = json.loads((run / "metrics.json").read_text())
    called = predictions["probability"] > 0.5
    assert value == metrics["balanced_accuracy"]["value"]
    assert value == pytest.approx(balanced_accuracy_score(predictions["label"], called))
    rows = history(run)
    assert rows["epoch"].tolist() == [0, 1, 2]
    assert rows["lr"].tolist() == pytest.approx([1e-4, 0.95e-4, 0.9025e-4])
    last = predictions[predictions["fold"] == 0]
    assert rows["val/balanced_accuracy"].iloc[-1] == pytest.approx(
        balanced_accuracy_score(last["label"], last["probability"] > 0.5), abs=1e-6
    )
    assert rows["val/loss"].iloc[-1] == pytest.approx(loss(last), rel=1e-4)
    _check_instances(run / "fold-0", cohort)
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert cross_validate(configured(), run) == value


def _check_instances(fold, cohort):
    """Each image's probability is that of a bag of it alone."""
    images = pd.read_csv(fold / "instances.csv")
    patients = pd.read_csv(fold / "predictions.csv").set_index("patient")["probability"]
    for patient, rows in images.groupby("patient"):
        files = {path.name for path in (cohort / "trainset" / patient).iterdir()}
        assert set(rows["image"]) == files
        # Mean pooling and one linear layer: a bag's logit is the mean of its images'.
        logits = np.log(rows["probability"] / (1 - rows["probability"]))
        assert 1 / (1 + np.exp(-logits.mean())) == pytest.approx(patients[patient], abs=1e-4)
    assert set(images["patient"]) == set(patients.index)


@pytest.mark.slow
@pytest.mark.parametrize("model", [
    [], ["+model.encoder.trainable=false", "model.encoder.norm=frozen",
         "model/fusion=additive_fitted"],
], ids=["trained", "fitted"])  # fmt: skip
def test_shuffled_bags_leave_the_clinical_values_and_the_held_out_images(
    configured, tmp_path, model
):
    words = (*ONE_EPOCH, "data.batch_size=8", "scheduler=none", *model)
    for name, more in (("plain", ()), ("shuffled", ("data.shuffle_bag_labels=true",))):
        cross_validate(configured(*words, *more), tmp_path / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lymphoml.data.datamodule.shuffled_owners", lambda patients, _: patients)
        cross_validate(configured(*words, "data.shuffle_bag_labels=true"), tmp_path / "undone")
    assert same_bytes(tmp_path / "plain", tmp_path / "undone", ["fold-0/predictions.csv"])
    assert not same_bytes(tmp_path / "plain", tmp_path / "shuffled", ["fold-0/predictions.csv"])


def test_folds_run_separately_in_any_order_end_in_the_same_files(configured, tmp_path):
    cross_validate(configured(*CLINICAL), tmp_path / "all")
    cross_validate(configured(*CLINICAL, "fold=1"), tmp_path / "each")
    assert not (tmp_path / "each" / "metrics.json").exists()
    cross_validate(configured(*CLINICAL, "fold=0"), tmp_path / "each")
    assert same_bytes(tmp_path / "all", tmp_path / "each")


def test_late_fusion_is_fitted_to_the_training_patients_of_its_fold(configured, tmp_path):
    """With a learning rate of almost 0 the prediction is the clinical model."""
    words = ("model/fusion=additive", "lr=1e-12", "trainer.max_epochs=1")
    cross_validate(configured(*words), tmp_path / "run")
    folds = pd.read_csv(tmp_path / "run" / "folds.csv", dtype=str).set_index("patient")["fold"]
    stored = pd.read_csv(tmp_path / "run" / "predictions.csv").set_index("patient")
    data = configured().data
    table = load_cohort(data).labelled.table
    for fold in ("0", "1"):
        train, held_out = (sorted(folds.index[chosen]) for chosen in (folds != fold, folds == fold))
        encoder = ClinicalEncoder.fit(
            table.loc[train], data.columns, data.clinical, standardize=True, missing="error"
        )
        model = LogisticRegression(tol=1e-10, max_iter=1000)
        model.fit(encoder.transform(table.loc[train]), table["label"].loc[train])
        expected = model.predict_proba(encoder.transform(table.loc[held_out]))[:, 1]
        assert stored.loc[held_out, "probability"].tolist() == pytest.approx(expected, abs=1e-4)


def test_other_weights_under_the_same_name_are_refused(configured, tmp_path):
    file = tmp_path / "weights.pt"
    encoder = build_model(configured().model, 1).encoder
    torch.save(encoder.state_dict(), file)
    config = configured(*ONE_EPOCH, f"model.encoder.weights={file}")
    cross_validate(config, tmp_path / "run")
    torch.save({name: each + 1 for name, each in encoder.state_dict().items()}, file)
    with pytest.raises(InputError, match=r"content of model\.encoder\.weights was"):
        cross_validate(config, tmp_path / "run")


def test_clinical_alone_loads_no_image(configured, cohort, tmp_path):
    corrupt = shutil.copytree(cohort, tmp_path / "corrupt")
    for image in corrupt.rglob("*.jpg"):
        image.write_text("not an image")
    given = (f"data.root={corrupt}", f"data.cache={tmp_path}/cache")
    cross_validate(configured(*CLINICAL, *given), tmp_path / "run")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match=r"000000\.jpg"):
        cross_validate(configured(*given), tmp_path / "other")
    assert not (tmp_path / "other").exists()


AVERAGED = ["model.encoder.norm=batch", "weight_averaging=ema", "weight_averaging.decay=0.9"]


@pytest.mark.parametrize("words", [CLINICAL[:1], AVERAGED], ids=["clinical", "averaged"])
def test_the_inner_split_selects_the_epoch_without_the_held_out_patients(
    configured, tmp_path, words
):
    words = ["data.inner_val_fraction=0.3", "optim=adam", "lr=1e-2", "fold=0", *words]
    cross_validate(configured(*words), tmp_path / "run")
    fold, rows = tmp_path / "run" / "fold-0", history(tmp_path / "run")
    selected = json.loads((fold / "done.json").read_text())["selected_epoch"]
    assert selected == rows["inner/loss"].idxmin()
    checkpoint = load_checkpoint(fold / "selected.ckpt")
    assert checkpoint["epoch"] == selected
    assert ("averaging_state" in checkpoint) == ("weight_averaging=ema" in words)
    expected = loss(pd.read_csv(fold / "predictions.csv"))
    assert rows["val/loss"][selected] == pytest.approx(expected, rel=1e-4)


def test_a_fold_trains_on_the_patients_that_are_drawn(configured, tmp_path, monkeypatch):
    """The inner patients are among them."""
    seen, original = {"train": set(), "val": set()}, BagClassifier._step
    spy = lambda self, batch, stage: seen[stage].update(batch.ids) or original(self, batch, stage)  # noqa: E731
    monkeypatch.setattr(BagClassifier, "_step", spy)
    config = configured(*CLINICAL, "fold=0", "data.train_size=6", "data.inner_val_fraction=0.5")
    cross_validate(config, tmp_path / "run")
    folds = pd.read_csv(tmp_path / "run" / "folds.csv", dtype={"patient": str})
    table = load_cohort(config.data).labelled.table
    drawn, held_out = map(set, training_split(config.data, table, folds, 0, config.seed))
    assert seen["train"] | seen["val"] - held_out == drawn
    assert len(seen["train"]) == len(drawn) / 2 == 3
    state = load_checkpoint(tmp_path / "run" / "fold-0" / "last.ckpt")["BagDataModule"]
    mean = table.loc[sorted(seen["train"]), config.data.clinical[0]].mean()
    assert state["clinical"]["mean"][0] == pytest.approx(mean)


def test_changed_folds_of_the_users_own_are_refused(configured, tmp_path):
    cross_validate(configured(*CLINICAL, "fold=0"), tmp_path / "first")
    mine = shutil.copy(tmp_path / "first" / "folds.csv", tmp_path / "mine.csv")
    words = (*CLINICAL, f"data.folds_csv={mine}", "fold=0")
    cross_validate(configured(*words), tmp_path / "run")
    table = pd.read_csv(mine)
    pd.DataFrame({"patient": table["patient"], "fold": 1 - table["fold"]}).to_csv(mine, index=False)
    with pytest.raises(InputError, match=r"its folds\.csv has other folds"):
        cross_validate(configured(*words), tmp_path / "run")


def test_stopped_early_and_killed_before_the_end_stays_stopped(configured, tmp_path, monkeypatch):
    words = ("data.inner_val_fraction=0.3", "trainer.patience=1", "trainer.max_epochs=20", "lr=30",
             "model/fusion=clinical", "fold=0")  # fmt: skip
    cross_validate(configured(*words), tmp_path / "whole")
    assert len(history(tmp_path / "whole")) < 20
    monkeypatch.setattr(cross_validation, "checkpoint_predictions", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cross_validate(configured(*words), tmp_path / "resumed")
    monkeypatch.undo()
    cross_validate(configured(*words), tmp_path / "resumed")
    assert same_bytes(tmp_path / "whole", tmp_path / "resumed", ["fold-0/predictions.csv"])
    pd.testing.assert_frame_equal(history(tmp_path / "whole"), history(tmp_path / "resumed"))


@pytest.mark.slow
def test_patience_counts_epochs_however_rarely_they_are_validated(configured, tmp_path):
    words = ("data.inner_val_fraction=0.3", "trainer.max_epochs=20", "lr=30",
             "model/fusion=clinical", "fold=0", "trainer.check_val_every_n_epoch=3",
             "trainer.patience=3")  # fmt: skip
    cross_validate(configured(*words), tmp_path / "run")
    rows = history(tmp_path / "run")
    losses = rows["inner/loss"][2::3].to_numpy()
    assert (losses[1:-1] < losses[:-2]).all()
    assert losses[-1] >= losses[-2]
    assert len(rows) == 3 * len(losses) < 20


def test_train_loss_is_the_mean_over_patients_also_with_a_short_last_step(configured, tmp_path):
    seen, original = [], BagClassifier._step

    def spy(self, batch, stage):
        losses, logits = original(self, batch, stage)
        seen.extend(losses.tolist() if stage == "train" else [])
        return losses, logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BagClassifier, "_step", spy)
        cross_validate(configured(*CLINICAL, "fold=0", "data.batch_size=3"), tmp_path / "run")
    assert len(seen) == 8
    assert history(tmp_path / "run")["train/loss"][0] == pytest.approx(np.mean(seen), rel=1e-6)


def test_an_existing_run_keeps_its_chunk_size(configured, tmp_path, monkeypatch):
    run, words = tmp_path / "run", ("model.encoder.norm=group", "trainer.max_epochs=1")
    chunks = []
    monkeypatch.setattr(hardware, "free_bytes", lambda *_: 10_000)
    cross_validate(configured(*words, "fold=0"), run)
    monkeypatch.undo()
    build = cross_validation.build_model
    monkeypatch.setattr(
        cross_validation, "build_model",
        lambda *a, chunk_size, **b: chunks.append(chunk_size) or build(*a, **b),
    )  # fmt: skip
    cross_validate(configured(*words, "fold=1"), run)  # though there is plenty of memory now
    stored = json.loads((run / "environment.json").read_text())["resolved"]["encoder_chunk_size"]
    assert chunks == [stored] == [8]
    with pytest.raises(InputError, match=r"chunk_size was 8 and is 4"):
        cross_validate(configured(*words, "trainer.encoder_chunk_size=4"), run)


@pytest.mark.parametrize(("overrides", "message"), [
    (["pretrain=vicreg", "lr=1e-2"], "this run pretrains nothing"),
    (["model.encoder.name=vit_tiny_patch16_224", "model.encoder.norm=batch"], "img_size=32"),
    (["data.folds=9"], "data.folds=9"),
    (["data.train_size=9", "fold=1"], "has 8 training patients; set it to 8 or less"),
    (["data.inner_val_fraction=0.05"], "data.inner_val_fraction=0.05"),
    (["trainer.precision=16-mixed"], "CUDA"),
    (["trainer.accelerator=abacus"], "trainer.accelerator=abacus"),
    (["scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"], "ReduceLROnPlateau"),
    (["data.crop=64"], "data.crop=64"),
    (["model.encoder.name=resnet999"], "resnet999"),
    (["model/fusion=additive_fitted"], "additive_fitted"),
])  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_a_folder_is_made(
    configured, tmp_path, overrides, message
):
    with pytest.raises(InputError, match=message):
        cross_validate(configured(*overrides), tmp_path / "run", overrides)
    assert not (tmp_path / "run").exists()


def test_a_fold_seed_keeps_the_folds_of_other_seeds(configured, tmp_path):
    def folds(*words):
        return prepare(configured(*CLINICAL, *words), tmp_path / "run").data.folds

    assert folds("seed=1", "data.fold_seed=0").equals(folds("seed=0"))
    assert not folds("seed=1").equals(folds("seed=0"))
