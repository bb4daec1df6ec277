"""A whole job on a tiny cohort: what the run folder promises."""

import json
import shutil
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from hydra import compose, initialize_config_dir
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from lymphoml.cli.config import run_config, validate
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError, RuntimeFailure
from lymphoml.data.clinical import ClinicalEncoder
from lymphoml.data.cohort import load_cohort
from lymphoml.data.datamodule import PatientBags
from lymphoml.models.build import build_model
from lymphoml.runs import cross_validation as training
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.predict import fold_probabilities, predict
from lymphoml.training import hardware
from lymphoml.training.callbacks import History
from lymphoml.training.checkpoint import load_checkpoint
from lymphoml.training.lightning_module import BagClassifier

CONF = Path(__file__).parents[2] / "conf"
TINY = ["model/encoder=timm", "model.encoder.name=test_resnet", "data=synthetic", "logger=none",
        "data.folds=2", "trainer.max_epochs=3", "trainer.enable_progress_bar=false", "data.image_baselines=[]",
        "trainer.num_threads=1"]  # fmt: skip
RUN = ["baselines.csv", "config.yaml", "environment.json", "folds.csv", "metrics.json",
       "predictions.csv", "strata.csv"]  # fmt: skip
FOLD = ["done.json", "history.csv", "instances.csv", "last.ckpt", "last.ckpt.sha256",
        "predictions.csv"]  # fmt: skip
SCORES = ["predictions.csv", "metrics.json", "folds.csv", "baselines.csv", "strata.csv",
          "fold-0/predictions.csv", "fold-0/instances.csv"]  # fmt: skip


@pytest.fixture
def configured(cohort, tmp_path):
    def compose_with(*overrides):
        words = [*TINY, f"data.root={cohort}", f"data.cache={tmp_path}/cache", *overrides]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return validate(compose("train", overrides=words))

    return compose_with


def same_bytes(one, other, names=SCORES):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def history(folder, fold=0):
    return pd.read_csv(folder / f"fold-{fold}" / "history.csv").drop(columns="images_per_second")


def test_run_folder_holds_what_design_says_and_its_numbers_agree(configured, tmp_path):
    value = cross_validate(configured(), tmp_path / "run")
    files = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*")}
    assert files >= {*RUN, *(f"fold-{k}/{name}" for k in (0, 1) for name in FOLD)}
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert list(predictions) == ["patient", "fold", "label", "probability"]
    assert predictions["patient"].nunique() == len(predictions) == 16
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    called = predictions["probability"] > 0.5
    assert value == metrics["balanced_accuracy"]["value"]
    assert value == pytest.approx(balanced_accuracy_score(predictions["label"], called))
    assert metrics["balanced_accuracy"]["low"] <= value <= metrics["balanced_accuracy"]["high"]
    rows = history(tmp_path / "run")
    assert rows["epoch"].tolist() == [0, 1, 2]
    assert rows["lr"].tolist() == pytest.approx([1e-4, 0.95e-4, 0.9025e-4])
    last = predictions[predictions["fold"] == 0]
    assert rows["val/balanced_accuracy"].iloc[-1] == pytest.approx(
        balanced_accuracy_score(last["label"], last["probability"] > 0.5), abs=1e-6
    )
    clipped = np.clip(last["probability"], 1e-7, 1 - 1e-7)
    loss = -np.where(last["label"] == 1, np.log(clipped), np.log(1 - clipped)).mean()
    assert rows["val/loss"].iloc[-1] == pytest.approx(loss, rel=1e-4)


def test_each_image_is_told_what_a_bag_of_it_alone_would_be(configured, tmp_path, cohort):
    cross_validate(configured("fold=0"), tmp_path / "run")
    fold = tmp_path / "run" / "fold-0"
    images = pd.read_csv(fold / "instances.csv")
    patients = pd.read_csv(fold / "predictions.csv").set_index("patient")["probability"]
    for patient, rows in images.groupby("patient"):
        files = {path.name for path in (cohort / "trainset" / patient).iterdir()}
        assert set(rows["image"]) == files
        # Mean pooling and one linear layer: a bag's logit is the mean of its images'.
        logits = np.log(rows["probability"] / (1 - rows["probability"]))
        assert 1 / (1 + np.exp(-logits.mean())) == pytest.approx(patients[patient], abs=1e-4)
    assert set(images["patient"]) == set(patients.index)


def test_eight_views_say_the_mean_logit_of_each_of_bags_and_of_images(
    configured, tmp_path, monkeypatch
):
    words = [
        "fold=0",
        "data.eval_tta=8",
        "trainer.max_epochs=1",
        "trainer.precision=32-true",
        "lr=1e-2",
    ]

    def logits(name):
        cross_validate(configured(*words), tmp_path / name)
        tables = [
            pd.read_csv(tmp_path / name / "fold-0" / table) for table in FOLD[-1:] + FOLD[2:3]
        ]
        return np.concatenate([np.log(t["probability"] / (1 - t["probability"])) for t in tables])

    together, each = logits("together"), []
    for symmetry in range(8):
        one = property(lambda bags, symmetry=symmetry: [partial(bags.images, symmetry=symmetry)])
        monkeypatch.setattr(PatientBags, "tta_views", one)
        each.append(logits(str(symmetry)))
    np.testing.assert_allclose(np.mean(each, axis=0), together, atol=1e-4)
    assert np.std(each, axis=0).max() > 1e-3
    losses = [history(tmp_path / name)["val/loss"].iloc[-1] for name in ("together", "0", "1")]
    assert len(set(losses)) == 3  # validation sees the views as well


def test_images_that_were_drawn_are_not_named(configured, tmp_path):
    cross_validate(configured("fold=0", "data.eval_bag_size=2"), tmp_path / "run")
    images = pd.read_csv(tmp_path / "run" / "fold-0" / "instances.csv")
    assert images.groupby("patient").size().le(2).all()


@pytest.mark.parametrize("model", [
    [], ["+model.encoder.trainable=false", "model.encoder.norm=frozen", "model/fusion=additive_fitted"],
], ids=["trained", "fitted"])  # fmt: skip
def test_permuted_bags_leave_the_clinical_values_and_the_held_out_images(
    configured, tmp_path, model
):
    words = ("fold=0", "trainer.max_epochs=1", "data.batch_size=8", "scheduler=none", *model)
    for name, more in (("plain", ()), ("permuted", ("data.shuffle_bag_labels=true",))):
        cross_validate(configured(*words, *more), tmp_path / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lymphoml.data.datamodule.shuffled_owners", lambda patients, _: patients)
        cross_validate(configured(*words, "data.shuffle_bag_labels=true"), tmp_path / "undone")
    assert same_bytes(tmp_path / "plain", tmp_path / "undone", ["fold-0/predictions.csv"])
    assert not same_bytes(tmp_path / "plain", tmp_path / "permuted", ["fold-0/predictions.csv"])


def test_one_seed_gives_identical_bytes_and_another_seed_others(configured, tmp_path):
    augmented = [
        "data.augment.flip=true",
        "data.augment.rotate=true",
        "data.augment.color_jitter=0.1",
        "data.train_bag_size=2",
    ]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cross_validate(configured(f"seed={seed}", "optim=adam", *augmented), tmp_path / name)
    assert same_bytes(tmp_path / "a", tmp_path / "b")
    assert not same_bytes(tmp_path / "a", tmp_path / "c", ["predictions.csv"])


def test_a_second_call_trains_nothing(configured, tmp_path, monkeypatch):
    first = cross_validate(configured(), tmp_path / "run")
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert cross_validate(configured(), tmp_path / "run") == first


def test_folds_run_apart_in_any_order_end_in_the_same_files(configured, tmp_path):
    cross_validate(configured(), tmp_path / "all")
    cross_validate(configured("fold=1"), tmp_path / "apart")
    assert not (tmp_path / "apart" / "metrics.json").exists()
    cross_validate(configured("fold=0"), tmp_path / "apart")
    assert same_bytes(tmp_path / "all", tmp_path / "apart")


@pytest.mark.parametrize("overrides", [
    ["optim=sgd"],
    ["optim=adam", "data.augment.flip=true", "data.train_bag_size=2", "data.inner_val_fraction=0.3",
     "trainer.patience=5", "data.num_workers=1"],
    ["optim=adam", "model/fusion=additive", "model.fusion.frozen=false", "loss.pos_weight=balanced",
     "model/pooling=sigmoid_weighted_mean", "model.instance_dropout=0.3", "model.encoder.norm=frozen"],
    ["optim=adamw", "weight_averaging=ema", "weight_averaging.decay=0.8",
     "model.encoder.norm=batch", "data.augment.flip=true", "data.batch_size=4",
     "loss.label_smoothing=0.1",
     "scheduler=cosine_with_warmup", "scheduler.warmup_epochs=1", "data.inner_val_fraction=0.3"],
    ["weight_averaging=swa", "weight_averaging.start=0.4", "model.encoder.norm=batch",
     "data.num_workers=1", "model.instance_dropout=0.3"],
], ids=["sgd", "adam", "additive", "ema", "swa"])  # fmt: skip
@pytest.mark.parametrize("moment", ["on_train_epoch_start", "on_train_batch_end"])
def test_interrupted_and_run_again_gives_the_same_bytes(
    configured, tmp_path, monkeypatch, overrides, moment
):
    cross_validate(configured(*overrides), tmp_path / "whole")
    original = getattr(History, moment)

    def dies(self, trainer, *args):
        if trainer.current_epoch == 2 and self.path.parent.name == "fold-1":
            raise OSError("killed")
        return original(self, trainer, *args)

    monkeypatch.setattr(History, moment, dies)
    with pytest.raises(OSError, match="killed"):
        cross_validate(configured(*overrides), tmp_path / "resumed")
    monkeypatch.setattr(History, moment, original)
    cross_validate(configured(*overrides), tmp_path / "resumed")
    assert same_bytes(tmp_path / "whole", tmp_path / "resumed")
    pd.testing.assert_frame_equal(history(tmp_path / "whole", 1), history(tmp_path / "resumed", 1))


def test_predicting_the_held_out_patients_reproduces_their_stored_predictions(
    configured, tmp_path, cohort
):
    run = tmp_path / "run"
    cross_validate(configured(), run)
    stored = pd.read_csv(run / "predictions.csv").set_index("patient")
    again = predict(
        run,
        {run: run_config(run, {"root": str(cohort)}, {})},
        tmp_path / "out",
        "all",
        ("ID", "LABEL"),
    )
    again = again.set_index("patient")
    assert len(again) == 16 + 3
    np.testing.assert_array_equal(again.loc[stored.index, "probability"], stored["probability"])


def test_a_table_changed_since_makes_nobody_predicted_by_a_model_that_trained_on_them(
    configured, tmp_path, cohort, capsys
):
    run, changed = tmp_path / "run", shutil.copytree(cohort, tmp_path / "changed")
    cross_validate(configured("model/fusion=clinical"), run)
    stored = pd.read_csv(run / "predictions.csv").set_index("patient")["probability"]
    table = pd.read_csv(changed / "trainset" / "trainset_true.csv")
    table.loc[table["ID"] == stored.index[0], "LYMPH_COUNT"] += 50
    table.to_csv(changed / "trainset" / "trainset_true.csv", index=False)
    config = run_config(run, {"root": str(changed)}, {})
    again = predict(run, {run: config}, tmp_path / "out", "all", ("ID", "LABEL"))
    again = again.set_index("patient").loc[stored.index, "probability"]
    np.testing.assert_array_equal(again[1:], stored[1:])
    assert again.iloc[0] != stored.iloc[0]
    assert "16 of these patients have ids that the run learned from" in capsys.readouterr().out


def test_a_person_whom_the_run_knows_by_another_id_is_predicted_by_the_models_that_do_not(
    configured, tmp_path, cohort, capsys
):
    run, changed = tmp_path / "run", shutil.copytree(cohort, tmp_path / "changed")
    known, new = (
        pd.read_csv(changed / name, dtype=str)
        for name in ("trainset/trainset_true.csv", "testset/testset_data.csv")
    )
    new.loc[0, ["DOB", "GENDER"]] = known.loc[0, ["DOB", "GENDER"]]
    new.to_csv(changed / "testset" / "testset_data.csv", index=False)
    cross_validate(configured("model/fusion=clinical", f"data.root={changed}"), run)
    fold = pd.read_csv(run / "folds.csv").set_index("patient")["fold"][known.loc[0, "ID"]]
    config = run_config(run, {"root": str(changed)}, {})
    table = predict(run, {run: config}, tmp_path / "out", "unlabelled", ("ID", "LABEL"))
    table = table.set_index("patient")
    again = fold_probabilities(run, config, load_cohort(config["data"]).unlabelled, [0, 1])
    person = new.loc[0, "ID"]
    assert table.index[table["standard_deviation"].isna()].tolist() == [person]
    assert table["probability"][person] == again.loc[person, fold]
    assert "1 of these patients seem to be persons from whom" in capsys.readouterr().out


def test_late_fusion_is_fitted_to_the_training_patients_of_its_fold(configured, cohort, tmp_path):
    """Where next to nothing is learned, what is predicted is the clinical model."""
    run = tmp_path / "run"
    cross_validate(configured("model/fusion=additive", "lr=1e-12", "trainer.max_epochs=1"), run)
    folds = pd.read_csv(run / "folds.csv", dtype=str).set_index("patient")["fold"]
    stored = pd.read_csv(run / "predictions.csv").set_index("patient")
    data = configured()["data"]
    table = load_cohort(data).labelled.table
    for fold in ("0", "1"):
        train, held_out = (sorted(folds.index[chosen]) for chosen in (folds != fold, folds == fold))
        encoder = ClinicalEncoder.fit(
            table.loc[train], data["columns"], data["clinical"], standardize=True, missing="error"
        )
        model = LogisticRegression(tol=1e-10, max_iter=1000)
        model.fit(encoder.transform(table.loc[train]), table["label"].loc[train])
        expected = model.predict_proba(encoder.transform(table.loc[held_out]))[:, 1]
        assert stored.loc[held_out, "probability"].tolist() == pytest.approx(expected, abs=1e-4)
    config = run_config(run, {"root": str(cohort)}, {})
    again = predict(run, {run: config}, tmp_path / "out", "all", ("ID", "LABEL"))
    again = again.set_index("patient").loc[stored.index, "probability"]
    np.testing.assert_array_equal(again, stored["probability"])


def test_predicting_the_test_patients_averages_the_folds(configured, tmp_path, cohort):
    cross_validate(configured(), tmp_path / "run")
    run = tmp_path / "run"
    table = predict(
        run,
        {run: run_config(run, {"root": str(cohort)}, {})},
        tmp_path / "out",
        "unlabelled",
        ("Id", "Predicted"),
    )
    assert len(table) == 3
    written = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert list(written) == ["Id", "Predicted"]
    test = pd.read_csv(cohort / "testset" / "testset_data.csv")
    assert sorted(written["Id"]) == sorted(test["ID"])
    assert (table["label"] == (table["probability"] > 0.5)).all()
    assert list(table) == ["patient", "probability", "standard_deviation", "label"]


def test_a_rule_makes_a_third_column_and_leaves_the_rest_alone(
    configured, tmp_path, cohort, capsys
):
    run, out = tmp_path / "run", tmp_path / "run" / "test"
    cross_validate(configured("model/fusion=clinical"), run)
    main(["predict", f"run={run}", f"data.root={cohort}"])
    assert f"no triage column: python -m lymphoml triage run={run}" in capsys.readouterr().out
    bare, submission = pd.read_csv(out / "predictions.csv"), (out / "submission.csv").read_bytes()
    main(["triage", f"run={run}", "sensitivity=0.5"])
    main(["predict", f"run={run}", f"data.root={cohort}"])
    table = pd.read_csv(out / "predictions.csv")
    assert list(table) == [*bare, "triage"]
    pd.testing.assert_frame_equal(table[list(bare)], bare)
    assert (out / "submission.csv").read_bytes() == submission
    assert set(table["triage"]) <= {"rule_out", "test"}
    spared = (table["triage"] == "rule_out").sum()
    assert f"triage: {spared} spared" in capsys.readouterr().out
    rule = json.loads((run / "triage.json").read_text())
    everybody = predict(
        run,
        {run: run_config(run, {"root": str(cohort)}, {})},
        tmp_path / "all",
        "all",
        ("ID", "LABEL"),
    )
    own = everybody.set_index("patient").join(
        pd.read_csv(run / "predictions.csv").set_index("patient")["label"].rename("truth")
    )
    counts = own[own["triage"] == "rule_out"]["truth"].value_counts()
    assert counts.get(1, 0) == rule["outcomes"]["average"]["missed"]
    assert counts.get(0, 0) == rule["outcomes"]["average"]["ruled_out"]
    (run / "triage.json").write_text("{}")
    with pytest.raises(InputError, match="is no rule of this program"):
        predict(
            run,
            {run: run_config(run, {"root": str(cohort)}, {})},
            tmp_path / "none",
            "all",
            ("ID", "LABEL"),
        )
    assert not (tmp_path / "none").exists()


def test_prediction_refuses_a_cohort_of_another_schema(configured, tmp_path, cohort):
    cross_validate(configured("fold=0"), tmp_path / "run")
    run = tmp_path / "run"
    with pytest.raises(InputError, match="fold 1 is not finished"):
        predict(
            run,
            {run: run_config(run, {"root": str(cohort)}, {})},
            tmp_path / "out",
            "all",
            ("ID", "LABEL"),
        )
    cross_validate(configured(), tmp_path / "run")
    for change, says in (
        ({"resize": 16}, "image size"),
        ({"clinical": ["age"]}, "clinical columns"),
        ({"rot": "x"}, "rot"),
        ({"crop": "large"}, "large"),
        ({"workers": -1}, "data.num_workers=-1"),
        ({"root": "nowhere"}, "nowhere"),
    ):
        with pytest.raises(InputError, match=says):
            predict(
                run,
                {run: run_config(run, {"root": str(cohort)} | change, {})},
                tmp_path / "out",
                "all",
                ("ID", "LABEL"),
            )
    assert not (tmp_path / "out").exists()


def test_other_weights_under_the_same_name_are_refused(configured, tmp_path):
    file, words = tmp_path / "weights.pt", ("fold=0", "trainer.max_epochs=1")
    encoder = build_model(configured()["model"], 1).encoder
    torch.save(encoder.state_dict(), file)
    given = f"model.encoder.weights={file}"
    cross_validate(configured(*words, given), tmp_path / "run")
    cross_validate(configured(*words, given), tmp_path / "run")
    torch.save({name: each + 1 for name, each in encoder.state_dict().items()}, file)
    with pytest.raises(InputError, match=r"content of model\.encoder\.weights is '\w+' there and"):
        cross_validate(configured(*words, given), tmp_path / "run")


def test_a_tracker_that_is_not_there_is_refused_before_a_folder_is_made(configured, tmp_path):
    with pytest.raises(InputError, match=r"logger\.mode=onlin: allowed are"):
        cross_validate(configured("logger=wandb", "logger.mode=onlin"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_words_for_a_pretraining_that_is_not_there_are_refused(configured, tmp_path):
    words = ["pretrain=vicreg", "lr=1e-2"]
    with pytest.raises(InputError, match=r"^pretrain=vicreg: this run pretrains nothing; add mod"):
        cross_validate(configured(*words), tmp_path / "run", words)
    assert not (tmp_path / "run").exists()


def test_folds_that_look_differently_do_not_predict_together(configured, tmp_path, cohort):
    run, allowed = tmp_path / "run", "resume.allow_changes=true"
    cross_validate(configured("fold=0", "trainer.max_epochs=1"), run)
    words = ("fold=1", "trainer.max_epochs=1", "data.normalize_images=true", allowed)
    cross_validate(configured(*words), run)
    config = run_config(run, {"root": str(cohort)}, {})
    with pytest.raises(InputError, match=r"data\.normalise changed while it was trained"):
        predict(run, {run: config}, tmp_path / "out", "all", ("ID", "LABEL"))


def test_folds_that_look_at_no_pixels_predict_whatever_these_become(configured, tmp_path, cohort):
    run, words = tmp_path / "run", ("model/fusion=clinical", "trainer.max_epochs=1")
    cross_validate(configured("fold=0", *words), run)
    drifted = ("data.crop=16", "data.normalize_images=true", "resume.allow_changes=true")
    cross_validate(configured("fold=1", *words, *drifted), run)
    config = run_config(run, {"root": str(cohort)}, {})
    predict(run, {run: config}, tmp_path / "out", "all", ("ID", "LABEL"))


def test_a_run_of_before_test_time_augmentation_goes_on_and_predicts(configured, tmp_path, cohort):
    run, words = tmp_path / "run", ("trainer.max_epochs=1",)
    cross_validate(configured("fold=0", *words), run)
    stored = yaml.safe_load((run / "config.yaml").read_text())
    del stored["data"]["eval_tta"]
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    cross_validate(configured("fold=1", *words), run)
    environment = json.loads((run / "environment.json").read_text())
    assert "drift" not in environment
    # As an earlier version recorded it.
    change = {"what": "data.eval_tta", "before": None, "now": 1}
    environment["drift"] = [{"when": "2026-11-20T08:00:00+00:00", "changes": [change]}]
    (run / "environment.json").write_text(json.dumps(environment))
    given = {"root": str(cohort), "cache": str(tmp_path / "cache")}
    config = run_config(run, given, {})
    predict(run, {run: config}, tmp_path / "out", "all", ("ID", "LABEL"))
    change["now"] = 8
    (run / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(InputError, match=r"data\.tta changed while it was trained"):
        predict(run, {run: config}, tmp_path / "out", "all", ("ID", "LABEL"))


def test_clinical_alone_loads_no_image(configured, cohort, tmp_path):
    spoiled = shutil.copytree(cohort, tmp_path / "spoiled")
    for image in spoiled.rglob("*.jpg"):
        image.write_text("not an image")
    cross_validate(configured("model/fusion=clinical", f"data.root={spoiled}"), tmp_path / "run")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match=r"000000.jpg of patient P\d+: cannot be decoded"):
        cross_validate(configured(f"data.root={spoiled}"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_the_inner_split_chooses_the_epoch_without_the_held_out_patients(configured, tmp_path):
    words = ["data.inner_val_fraction=0.3", "optim=adam", "lr=1e-2", "model/fusion=clinical"]
    cross_validate(configured(*words), tmp_path / "run")
    fold = tmp_path / "run" / "fold-0"
    rows = pd.read_csv(fold / "history.csv")
    chosen = json.loads((fold / "done.json").read_text())["selected_epoch"]
    assert chosen == rows["inner/loss"].idxmin()
    selected = load_checkpoint(fold / "selected.ckpt")
    assert selected["epoch"] == chosen
    predictions = pd.read_csv(fold / "predictions.csv")
    accuracy = balanced_accuracy_score(predictions["label"], predictions["probability"] > 0.5)
    assert rows["val/balanced_accuracy"][chosen] == pytest.approx(accuracy, abs=1e-6)


def test_scaling_never_sees_the_held_out_patients(configured, cohort, tmp_path):
    words = ("model/fusion=clinical", "trainer.max_epochs=1", "fold=0")
    cross_validate(configured(*words), tmp_path / "run")
    other = shutil.copytree(cohort, tmp_path / "other")
    held_out = pd.read_csv(tmp_path / "run" / "fold-0" / "predictions.csv")["patient"][0]
    table = pd.read_csv(other / "trainset" / "trainset_true.csv")
    table.loc[table["ID"] == held_out, "LYMPH_COUNT"] = 999.0
    table.to_csv(other / "trainset" / "trainset_true.csv", index=False)
    cross_validate(configured(*words, f"data.root={other}"), tmp_path / "again")
    first, second = (
        load_checkpoint(tmp_path / name / "fold-0" / "last.ckpt") for name in ("run", "again")
    )
    assert first["BagDataModule"]["clinical"] == second["BagDataModule"]["clinical"]
    for name, weight in first["state_dict"].items():
        assert torch.equal(weight, second["state_dict"][name])


def test_another_configuration_or_other_data_in_the_same_folder_is_refused(
    configured, cohort, tmp_path
):
    words = ("model/fusion=clinical", "trainer.max_epochs=1", "fold=0")
    cross_validate(configured(*words), tmp_path / "run")
    with pytest.raises(InputError, match=r"lr is 0.0001 there and 0.01 now"):
        cross_validate(configured(*words, "lr=1e-2"), tmp_path / "run")
    other = shutil.copytree(cohort, tmp_path / "other")
    path = other / "trainset" / "trainset_true.csv"
    table = pd.read_csv(path)
    table.loc[0, "LYMPH_COUNT"] += 1
    table.to_csv(path, index=False)
    with pytest.raises(InputError, match="have changed since it was begun"):
        cross_validate(configured(*words, f"data.root={other}"), tmp_path / "run")


def test_a_run_of_before_is_scored_anew_without_training(configured, tmp_path, monkeypatch):
    cross_validate(configured(), tmp_path / "run")
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    del config["data"]["hard_stratum"], config["data"]["shuffle_bag_labels"]
    del config["model"]["instance_dropout"]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "run" / "metrics.json").unlink()
    monkeypatch.setattr(pl.Trainer, "fit", lambda *_, **__: pytest.fail("trained again"))
    cross_validate(configured(), tmp_path / "run")
    assert (tmp_path / "run" / "metrics.json").read_bytes() == before
    with pytest.raises(InputError, match="shuffle_bag_labels is False there and True now"):
        cross_validate(configured("data.shuffle_bag_labels=true"), tmp_path / "run")


def test_changed_folds_of_the_users_own_are_refused(configured, tmp_path):
    cross_validate(configured("model/fusion=clinical", "trainer.max_epochs=1"), tmp_path / "first")
    mine = shutil.copy(tmp_path / "first" / "folds.csv", tmp_path / "mine.csv")
    words = ("model/fusion=clinical", "trainer.max_epochs=1", f"data.folds_csv={mine}", "fold=0")
    cross_validate(configured(*words), tmp_path / "run")
    table = pd.read_csv(mine)
    pd.DataFrame({"patient": table["patient"], "fold": 1 - table["fold"]}).to_csv(mine, index=False)
    with pytest.raises(InputError, match="content has changed"):
        cross_validate(configured(*words), tmp_path / "run")


def test_a_diverged_fold_is_no_finished_fold(configured, tmp_path):
    words = ("lr=1e30", "trainer.max_epochs=1", "fold=0")
    with pytest.raises(RuntimeFailure, match=r"fold 0, epoch 1, .* diverged"):
        cross_validate(configured(*words), tmp_path / "run")
    assert not (tmp_path / "run" / "fold-0" / "done.json").exists()


def test_stopped_early_and_killed_before_the_end_stays_stopped(configured, tmp_path, monkeypatch):
    words = ("data.inner_val_fraction=0.3", "trainer.patience=1", "trainer.max_epochs=20", "lr=30",
             "model/fusion=clinical", "fold=0")  # fmt: skip
    cross_validate(configured(*words), tmp_path / "whole")
    assert len(history(tmp_path / "whole")) < 20
    monkeypatch.setattr(training, "checkpoint_predictions", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cross_validate(configured(*words), tmp_path / "resumed")
    monkeypatch.undo()
    cross_validate(configured(*words), tmp_path / "resumed")
    assert same_bytes(tmp_path / "whole", tmp_path / "resumed", ["fold-0/predictions.csv"])
    pd.testing.assert_frame_equal(history(tmp_path / "whole"), history(tmp_path / "resumed"))


def test_patience_counts_epochs_however_rarely_they_are_validated(configured, tmp_path):
    words = ("data.inner_val_fraction=0.3", "trainer.max_epochs=20", "lr=30", "model/fusion=clinical",
             "fold=0", "trainer.check_val_every_n_epoch=3", "trainer.patience=3")  # fmt: skip
    cross_validate(configured(*words), tmp_path / "run")
    rows = history(tmp_path / "run")
    losses = rows["inner/loss"][2::3].to_numpy()
    assert (losses[1:-1] < losses[:-2]).all()
    assert losses[-1] >= losses[-2]
    assert len(rows) == 3 * len(losses) < 20


def test_decoding_leaves_the_process_filters_alone(configured, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        errors = sum(rule[0] == "error" for rule in warnings.filters)
        cross_validate(configured("fold=0", "trainer.max_epochs=1"), tmp_path / "run")
        assert sum(rule[0] == "error" for rule in warnings.filters) == errors


def test_no_time_goes_into_filling_new_tensors(configured, tmp_path):
    # Deterministic algorithms fill every torch.empty with nan unless told not to: 9 % at 32 px.
    cross_validate(configured("fold=0", "trainer.max_epochs=1"), tmp_path / "run")
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_train_loss_is_the_mean_over_patients_also_with_a_short_last_step(configured, tmp_path):
    seen, step = [], BagClassifier._step

    def spy(self, batch, stage):
        losses, logits = step(self, batch, stage)
        seen.extend(losses.tolist() if stage == "train" else [])
        return losses, logits

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BagClassifier, "_step", spy)
        words = ("fold=0", "data.batch_size=3", "trainer.max_epochs=1")
        cross_validate(configured(*words), tmp_path / "run")
    assert len(seen) == 8
    assert history(tmp_path / "run")["train/loss"][0] == pytest.approx(np.mean(seen), rel=1e-6)


def test_chunks_change_the_memory_and_not_the_learning(configured, tmp_path):
    words = ("model.encoder.norm=group", "data.augment.flip=true", "data.augment.color_jitter=0.1", "fold=0",
             "trainer.precision=32-true")  # fmt: skip
    cross_validate(configured(*words, "trainer.encoder_chunk_size=null"), tmp_path / "whole")
    cross_validate(configured(*words, "trainer.encoder_chunk_size=2"), tmp_path / "chunks")
    one, other = history(tmp_path / "whole"), history(tmp_path / "chunks")
    pd.testing.assert_frame_equal(one, other, rtol=1e-3)


def test_a_begun_run_keeps_the_chunks_it_was_begun_with(configured, tmp_path, cohort, monkeypatch):
    monkeypatch.setattr(hardware, "free_bytes", lambda cuda, jobs: 10_000)
    cross_validate(configured("fold=0"), tmp_path / "run")
    assert (
        run_config(tmp_path / "run", {"root": str(cohort)}, {})["trainer"]["encoder_chunk_size"]
        == 8
    )
    monkeypatch.undo()
    cross_validate(configured("fold=1"), tmp_path / "run")  # though memory is plenty now
    assert (
        run_config(tmp_path / "run", {"root": str(cohort)}, {})["trainer"]["encoder_chunk_size"]
        == 8
    )
    with pytest.raises(InputError, match=r"chunk_size is 8 there and 4 now"):
        cross_validate(configured("trainer.encoder_chunk_size=4"), tmp_path / "run")


def test_an_encoder_that_wants_other_images_is_refused(configured, tmp_path):
    words = ("model.encoder.name=vit_tiny_patch16_224", "model.encoder.norm=batch")
    with pytest.raises(InputError, match=r"vit_tiny.* refuses images of 32 x 32 .*img_size=32"):
        cross_validate(configured(*words), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("override", "says"), [
    ("fold=2", "fold=2: allowed are all and 0 to 1"),
    ("fold=x", "fold=x: allowed"),
    ("fold=true", "fold=True: allowed"),
    ("data.folds=9", "2 to [1-8] folds"),
    ("data.train_bag_size=0", "data.train_bag_size: 0"),
    ("data.inner_val_fraction=0.9", "0 to 0.5"),
    ("trainer.patience=3", "needs data.inner_val_fraction"),
    ("data.inner_val_fraction=0.05", "allowed is 0.[0-9]+ or more"),
    ("trainer.check_val_every_n_epoch=9", "nothing is validated"),
    ("trainer.precision=half", "trainer.precision=half"),
    ("trainer.precision=16-true", "16-true: allowed are auto, 32-true, bf16-mixed, 16-mixed"),
    ("trainer.precision=16-mixed", "16-mixed: needs a CUDA GPU"),
    ("trainer.encoder_chunk_size=0", "trainer.encoder_chunk_size=0: allowed are auto, null, and 1 or more"),
    ("trainer.accelerator=abacus", "trainer.accelerator=abacus"),
    ("scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau", "ReduceLROnPlateau"),
    ("lr=-1", "learning rate"),
    ("pos_weight=heavy", "pos_weight=heavy"),
    ("data.crop=64", "smaller than data.crop=64"),
    ("model.encoder.name=resnet999", "resnet999"),
    ("data.reference_date=30-02-2020", "30-02-2020"),
])  # fmt: skip
def test_values_that_mean_nothing_are_refused_before_a_folder_is_made(
    configured, tmp_path, override, says
):
    with pytest.raises(InputError, match=says):
        cross_validate(configured(override), tmp_path / "run")
    assert not (tmp_path / "run").exists()
