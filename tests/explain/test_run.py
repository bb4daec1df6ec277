"""`explain` on trained runs: whose model, which numbers, what is refused."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from lymphoml.cli.config import compose_config, run_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort
from lymphoml.explain.bag import open_folds
from lymphoml.explain.cells import bag_logit, leave_one_out
from lymphoml.explain.checks import some_patients
from lymphoml.explain.run import Explainer, _check_methods
from lymphoml.explain.tables import read_explanations, strongest
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import TINY, configuration, refused

NETWORK = ["experiment=morphology", "model/encoder=mlp", "model.encoder.hidden=[4]",
           "model/pooling=gated_attention", "model/fusion=mixture", "trainer.max_epochs=1",
           "trainer.precision=32-true"]  # fmt: skip
ATTENTION = {"_target_": "lymphoml.models.pooling.attention.Attention", "hidden": 2}


def places(run, cohort):
    return [f"run={run}", f"data.root={cohort}", f"data.cache={run.parent / 'cache'}"]


def explained(run, cohort, *words):
    main(["explain", *places(run, cohort), *words])
    if any(word.startswith("out=") for word in words):
        return None
    return pd.read_csv(run / "explanations" / "cells.csv", dtype={"image": str})


def models(run, cohort, cache=None):
    """By fold, the model and its bags of all labelled patients."""
    config = run_config(run, {"root": str(cohort), "cache": str(cache or run.parent / "cache")}, {})
    labelled = load_cohort(config.data).labelled
    for opened in open_folds(run, config, labelled, [0, 1], same=True):
        yield opened.fold, opened


@torch.no_grad()
def test_cells_are_left_out_of_the_model_that_held_the_patient_out(trained, cohort):
    run = trained / "pixels"
    table = explained(run, cohort, "methods=[leave_one_out]")
    held_out = pd.read_csv(run / "folds.csv").set_index("patient")["fold"]
    stored = pd.read_csv(run / "predictions.csv").set_index("patient")["probability"]
    for fold, opened in models(run, cohort):
        for patient in held_out.index[held_out == fold][:3]:
            pixels = opened.bags.transform(opened.images(patient))
            clinical = opened.clinical(patient)
            whole = bag_logit(opened.model, opened.model.encoder(pixels), clinical)
            assert float(whole.sigmoid()) == pytest.approx(stored[patient], abs=1e-6)
            rows = table[table["patient"] == patient]
            names = [path.name for path in opened.bags.cohort.images[patient]]
            assert rows["image"].tolist() == names
            for image in range(len(names)):
                others = torch.cat([pixels[:image], pixels[image + 1 :]])
                without = bag_logit(opened.model, opened.model.encoder(others), clinical)
                assert rows["effect"].iloc[image] == pytest.approx(float(whole - without), abs=1e-5)
    unlabelled = ~table["patient"].isin(held_out.index)
    assert set(table["models"][unlabelled]) == {2}
    assert set(table["models"][~unlabelled]) == {1}
    assert table["standard_deviation"].notna().equals(unlabelled)


@torch.no_grad()
def test_what_the_cells_of_largest_effect_carry_is_the_logit_without_them(trained, cohort):
    run = trained / "pixels"
    if not (run / "explanations").exists():
        explained(run, cohort)
    tables = read_explanations(run).tables
    assert len(tables["patients"]) == 19
    effects = tables["cells"].set_index(["patient", "image"])["effect"]
    held_out = pd.read_csv(run / "folds.csv").set_index("patient")["fold"]
    for fold, opened in models(run, cohort):
        for patient in held_out.index[held_out == fold][:3]:
            row = tables["patients"].set_index("patient").loc[patient]
            order = effects[patient].sort_values().index
            pixels = opened.bags.transform(opened.images(patient))
            names = [path.name for path in opened.bags.cohort.images[patient]]
            for column, sign, chosen in (("without_for", 1, order[::-1]),
                                         ("without_against", -1, order)):  # fmt: skip
                shown = [name for name in chosen[:3] if sign * effects[patient, name] > 0]
                rest = pixels[[name not in shown for name in names]]
                left = bag_logit(opened.model, opened.model.encoder(rest), opened.clinical(patient))
                assert row[column] == pytest.approx(float(left), abs=1e-5)


def test_effects_are_chosen_by_sign_and_size():
    effects = np.array([0.1, -3, np.nan, 2, 0, 5, -0.5, 1])
    assert [each.tolist() for each in strongest(effects)] == [[5, 3, 7], [1, 6]]
    assert [each.tolist() for each in strongest(np.array([np.nan]))] == [[], []]


def test_explanations_of_a_run_as_it_was_are_not_read(trained, cohort, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained / "vectors", run)
    shutil.rmtree(run / "explanations", ignore_errors=True)
    assert read_explanations(run) is None
    explained(trained / "vectors", cohort, f"out={run / 'explanations'}")
    assert set(read_explanations(run).tables) == {"cells", "patients"}
    cells = run / "explanations" / "cells.csv"
    whole = cells.read_text()
    for wrong in ("patient,image\n", whole.replace(",leave_one_out,", ",leave_one_out,x", 1), "\0"):
        cells.write_text(wrong)
        with pytest.raises(InputError, match="cannot be read"):
            read_explanations(run)
    cells.write_text(whole)
    faithfulness = run / "explanations" / "faithfulness.json"
    faithfulness.rename(run / "as_it_was")  # a command that was stopped before its checks
    assert read_explanations(run) is None
    (run / "as_it_was").rename(faithfulness)
    (run / "SHA256SUMS").write_text("")
    with pytest.raises(InputError, match="explains the run as it was before"):
        read_explanations(run)


@pytest.mark.parametrize("network", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_contributions_of_measures_sum_to_the_logit(trained, cohort, network):
    """Exactly where the model is linear in them; else they are Shapley values, with an error."""
    run = trained / ("network" if network else "vectors")
    if network:
        cross_validate(configuration(cohort, trained / "cache", *NETWORK), run)
    predictions = pd.read_csv(run / "predictions.csv").groupby("fold").head(2)
    ids = ",".join(predictions["patient"])
    explained(run, cohort, "methods=[measures]", f"patients=[{ids}]")
    table = pd.read_csv(run / "explanations" / "measures.csv")
    sums = table.groupby("patient")["contribution"].sum()
    probability = predictions.set_index("patient")["probability"]
    rest = np.log(probability / (1 - probability)) - sums
    for fold in (0, 1):  # the same at the means of the fold's training patients
        assert np.ptp(rest[predictions["fold"].to_numpy() == fold]) < 1e-4
    assert np.ptp(sums) > 1e-4
    assert ("error" in table and (table["error"] > 0).any()) == network
    assert {"age", "lymphocyte_count"} <= set(table["measure"])
    assert table["measure"].str.contains("nucleus").any()


@pytest.mark.slow
@pytest.mark.parametrize(("words", "methods"), [
    (["data/features=pretrained", "model/encoder=identity", "model/pooling=mean",
      "pretrain.crop=null", "pretrain.resize=null", "pretrain.encoder.width=2"],
     "leave_one_out,measures"),
    (["experiment=simclr_abmil", "trainer.precision=32-true", "data.crop=null",
      "data.resize=null"], "leave_one_out,attention,occlusion,grad_cam"),
], ids=["features", "weights"])  # fmt: skip
def test_each_fold_is_explained_with_the_encoder_that_it_pretrained(
    trained, cohort, tmp_path, words, methods
):
    run = tmp_path / "run"
    few = ["pretrain.epochs=1", "trainer.max_epochs=1", "pretrain.batch_size=8"]
    cross_validate(compose_config(*places(trained / "x", cohort)[1:], *TINY, *few, *words), run)
    main(["explain", f"run={run}", f"data.root={cohort}", f"data.cache={trained / 'cache'}",
          f"methods=[{methods}]", *["pictures=1"] * ("grad_cam" in methods)])  # fmt: skip
    table = pd.read_csv(run / "explanations" / "cells.csv")
    assert set(table["method"]) == {*methods.split(",")} - {"measures"}
    assert table["patient"].nunique() == 19
    held_out = pd.read_csv(run / "folds.csv").set_index("patient")["fold"]
    for fold, opened in models(run, cohort, trained / "cache"):
        rows = table[table["method"] == "leave_one_out"].set_index("patient")
        for patient in held_out.index[held_out == fold][:2]:
            (view,) = opened.bag(patient).views
            effects = leave_one_out(opened.model, view, opened.clinical(patient)).detach()
            assert np.allclose(rows.loc[[patient], "effect"], effects, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_an_interrupted_command_goes_on_and_gives_the_same(trained, cohort, tmp_path, monkeypatch):
    run = trained / "pixels"
    words = ["methods=[leave_one_out,occlusion,grad_cam]", "pictures=1"]
    main(["explain", *places(run, cohort), *words, f"out={tmp_path / 'whole'}"])
    fold, count = Explainer.explain_fold, []

    def interrupted(self, opened, patients, part):
        if len(count) == 1:
            raise KeyboardInterrupt
        count.append(part.name)
        fold(self, opened, patients, part)

    monkeypatch.setattr(Explainer, "explain_fold", interrupted)
    again = ["explain", *places(run, cohort), *words, f"out={tmp_path / 'again'}"]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main(again)
    monkeypatch.setattr(Explainer, "explain_fold", fold)
    first = tmp_path / "again" / "parts" / "labelled-0.csv"
    before = first.stat().st_mtime_ns
    main(again)
    assert first.stat().st_mtime_ns == before
    whole, resumed = ({path.relative_to(root): path for path in root.rglob("*") if path.is_file()}
                      for root in (tmp_path / "whole", tmp_path / "again"))  # fmt: skip
    assert whole.keys() == resumed.keys()
    for name, path in whole.items():
        if path.suffix != ".npz":  # which has times in it
            assert path.read_bytes() == resumed[name].read_bytes()
    pictures = [*(tmp_path / "whole" / "pictures").rglob("*.png")]
    assert len(pictures) == 19 * 2  # one for each patient and method
    with Image.open(pictures[0]) as picture:
        assert picture.size == (224, 224)
    private = [path for path in whole.values() if path.name != "settings.json"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in private)


def test_earlier_explanations_are_not_lost(trained, cohort, tmp_path, capsys):
    run = places(trained / "vectors", cohort)
    words = ["explain", *run, f"out={tmp_path / 'out'}", "checks=false"]
    main([*words, "methods=[measures]"])
    before = (tmp_path / "out" / "cells.csv").read_bytes()
    with pytest.raises(SystemExit):
        main([*words, "methods=[leave_one_out]"])
    assert "holds explanations of other patients, or of these with" in capsys.readouterr().err
    assert (tmp_path / "out" / "cells.csv").read_bytes() == before


def test_explanations_of_images_that_have_changed_are_not_kept(trained, cohort, tmp_path, capsys):
    later, out = shutil.copytree(cohort, tmp_path / "later"), tmp_path / "out"
    patient = sorted((later / "testset").glob("*/"))[0]
    words = ["explain", *places(trained / "pixels", later), f"patients=[{patient.name}]"]
    main([*words, f"out={out}", "checks=false"])
    for path in patient.iterdir():
        Image.new("RGB", (32, 32)).save(path)
    assert "other values or images" in refused(capsys, *words, f"out={out}", "checks=false")


def test_a_sample_is_of_labelled_patients_those_whose_places_are_checked(
    trained, cohort, tmp_path, monkeypatch
):
    monkeypatch.setattr("lymphoml.explain.run.MOST_PLACED", 5)
    out = tmp_path / "out"
    main(["explain", *places(trained / "vectors", cohort), "patients=sample", f"out={out}"])
    explained = set(pd.read_csv(out / "cells.csv", dtype=str)["patient"])
    labelled = pd.read_csv(trained / "vectors" / "predictions.csv", dtype=str)["patient"]
    assert explained == {*some_patients({*labelled}, 5)}


@pytest.mark.parametrize(("kind", "words", "says"), [
    ("pixels", ["patients=[P0,P999]"], "P999 is not a patient"),
    ("pixels", ["methods=[saliency]"], "must be some of leave_one_out"),
    ("pixels", ["methods=[measures]"], "needs bags of feature vectors"),
    ("vectors", ["methods=[grad_cam]"], "needs a network that looks at pixels"),
    ("pixels", ["methods=[attention]"], "has no weights"),
    ("pixels", ["patients=P1"], "must be all, sample, or a list"),
    ("pixels", ["trainer.accelerator=gpu"], "trainer"),
])  # fmt: skip
def test_what_cannot_be_explained_is_refused_in_a_line(trained, cohort, capsys, kind, words, says):
    with pytest.raises(SystemExit) as ended:
        main(["explain", *places(trained / kind, cohort), *words])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_what_is_missing_by_now_is_named_in_a_line(trained, cohort, tmp_path, capsys):
    run = shutil.copytree(trained / "pixels", tmp_path / "run")
    later = shutil.copytree(cohort, tmp_path / "later")
    words = ["explain", f"run={run}", f"data.cache={trained / 'cache'}", f"out={tmp_path / 'out'}"]
    gone = sorted((later / "trainset").rglob("*.jpg"))[0]
    gone.unlink()
    assert "images have changed" in refused(capsys, *words, f"data.root={later}")
    (run / "fold-1" / "last.ckpt").unlink()
    assert "fold-1/last.ckpt" in refused(capsys, *words, f"data.root={cohort}")
    assert not (tmp_path / "out" / "cells.csv").exists()


def test_shapley_values_without_captum_are_refused_in_a_line(trained, cohort, capsys, monkeypatch):
    run, linear = trained / "vectors", run_config(trained / "vectors", {"root": str(cohort)}, {})
    config = linear.model_copy(update={"model": linear.model | {"pooling": ATTENTION}})
    monkeypatch.setattr("lymphoml.explain.run.find_spec", lambda name: None)
    _check_methods(run, linear, ["measures"])
    with pytest.raises(InputError, match="pip install captum"):
        _check_methods(run, config, ["measures"])
