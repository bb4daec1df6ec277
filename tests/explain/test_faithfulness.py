"""Faithfulness of a run's explanations: planted truth, warnings, files, refusals."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lymphoml.cli.main import main
from lymphoml.data.synthetic import population
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.explain import checks
from lymphoml.explain.bag import Bag, effects
from lymphoml.explain.deletion import check_cells
from lymphoml.explain.faithfulness import warnings
from lymphoml.explain.randomised import cascade
from lymphoml.models.encoders import FeatureEncoder
from lymphoml.models.fusion.fitted import assign_linear, fit_bags
from lymphoml.models.fusion.trained import NoClinical
from lymphoml.models.mil import MILModel
from lymphoml.models.pooling.statistics import Mean, MeanStd
from lymphoml.runs.cross_validation import cross_validate
from tests.explain.conftest import VECTORS
from tests.explain.test_run import places
from tests.promises.jobs import configuration, refused

CLEAR = {  # shares of atypical cells, Beta: reactive, tumoral
    "few": ((1.0, 99.0), (3.0, 12.0)), "many": ((1.0, 9.0), (9.0, 1.0)),
}  # fmt: skip


def draw_bags(kind, patients, seed):
    """Vectors (n 6) of each patient, the truth of the images, and the label."""
    drawn = replace(population.POPULATION, clear=CLEAR[kind], clear_share=1.0)
    for index in range(patients):
        patient = population.draw_patient((20, 40), seed, 0, index, drawn)
        noise = np.random.default_rng([seed, index]).normal(size=(len(patient.cells), 6))
        slide = np.random.default_rng([seed, index, 1]).normal(size=6) * [0, 0, 1, 1, 1, 1]
        vectors = noise + slide + 3 * np.outer(patient.cells, [1, 1, 0, 0, 0, 0])
        yield torch.from_numpy(vectors).float(), patient.cells.astype(int), patient.label


def fit(pooling, bags, labels):
    """A model linear in the pooled bag, as `model/fusion=stacking` fits it."""
    pooled = pooling(6)
    model = MILModel(FeatureEncoder(feature_dim=6), pooled, NoClinical(pooled.dim, 0)).eval()
    lengths = torch.tensor([len(vectors) for vectors, *_ in bags])
    with torch.no_grad():
        vectors = model.pool(torch.cat([vectors for vectors, *_ in bags]), lengths)
    assign_linear(model.fusion.image, *fit_bags(vectors, labels, 1.0, 0.02))
    return model


def auroc_of_cells(model, bags):
    """The mean AUROC of leave_one_out within patients of both kinds."""
    found = []
    for vectors, truth, _ in bags:
        bag = Bag("P1", model, vectors, [lambda images: images], torch.zeros(0))
        scores = {method: values for method, values, _ in effects(bag, ["leave_one_out"])}
        first = next(check_cells(bag, scores, truth))
        found += [first.value] if first.check == "truth" else []
    return float(np.mean(found))


@pytest.mark.parametrize(("kind", "pooling", "seed"), [
    ("few", Mean, 0), ("many", MeanStd, 0),
    pytest.param("few", MeanStd, 1, marks=pytest.mark.slow),
    pytest.param("many", Mean, 1, marks=pytest.mark.slow),
])  # fmt: skip
def test_left_out_cells_of_a_right_model_are_the_planted_ones(kind, pooling, seed):
    known, held_out = [*draw_bags(kind, 60, seed)], [*draw_bags(kind, 8, seed + 100)]
    labels = torch.tensor([float(label) for *_, label in known])
    model = fit(pooling, known, labels)
    assert auroc_of_cells(model, held_out) >= 0.95
    orders = [np.random.default_rng(each).permutation(60) for each in range(5)]
    permuted = [fit(pooling, known, labels[order]) for order in orders]
    untrained = [[twin for _, twin in cascade(model, each)][-1] for each in range(5)]
    for models in (permuted, untrained):
        assert np.mean([auroc_of_cells(each, held_out) for each in models]) < 0.8


def test_a_run_is_checked_beside_its_control_and_twin(trained, cohort, tmp_path, capsys):
    run, out = trained / "vectors", tmp_path / "one"
    main(["explain", *places(run, cohort), f"out={out}", f"control={run}",
          f"truth={cohort / 'truth.json'}"])  # fmt: skip
    found = json.loads((out / "faithfulness.json").read_text())
    rows = pd.DataFrame(found["checks"]).astype({"control": object})
    keys = ["method", "check", "control"]
    of = {name: part.drop(columns="model").set_index(keys) for name, part in rows.groupby("model")}
    pd.testing.assert_frame_equal(of["run"], of["control"])  # the same run
    assert not of["run"]["value"].equals(of["untrained"]["value"])
    area = of["run"]["value"].loc["leave_one_out", "cells_deletion"]
    assert set(area.index[1:]) == {"random", "reverse"}
    assert not rows["by_construction"].any()  # mean and spread
    assert [(each["model"], each["control"]) for each in found["truth"]] == [
        ("run", None), ("untrained", None), ("control", None)]  # fmt: skip
    assert [each["step"] for each in found["randomisation"]] == ["fusion"]
    assert found["ceiling"]["leave_one_out"]["labelled"] is False
    assert found["patients"] == 16
    printed = capsys.readouterr().out
    assert "cells_deletion less reverse" in printed
    assert "AUROC, untrained" in printed
    one = found["checks"][0]
    parts = [pd.read_csv(out / "parts" / "checks" / f"labelled-{fold}.csv") for fold in (0, 1)]
    own = pd.concat(parts).query("check == @one['check'] and control.isna()")
    assert one["value"] == pytest.approx(own["value"].mean(), abs=1e-6)


def row(method, check, control, low, **more):
    return {"model": "run", "method": method, "check": check, "control": control, "low": low,
            "by_construction": False} | more  # fmt: skip


def test_a_method_that_is_not_above_its_controls_gets_a_sentence():
    content = {
        "checks": [
            row("grad_cam", "places_deletion", "random", -0.1),
            row("grad_cam", "places_deletion", "reverse", None),  # of one patient
            row("grad_cam", "places_deletion", "mean_map", 0.1),
            row("occlusion", "places_deletion", "random", 0.1),
            row("leave_one_out", "cells_deletion", "random", -0.1, by_construction=True),
            row("leave_one_out", "cells_deletion", "attention", -0.1),  # no control
            row("leave_one_out", "cells_deletion", "random", -0.1, model="untrained"),
        ],
        "randomisation": [
            {"method": "leave_one_out", "step": "fusion", "value": 0.9},
            {"method": "leave_one_out", "step": "encoder.0", "value": 0.1},
            {"method": "occlusion", "step": "encoder.0", "value": 0.5},
            {"method": "grad_cam", "step": "encoder.0", "value": None},
            {"method": "attention", "step": "encoder.0", "value": None},
        ],
        "ceiling": {each: {"low": 0.4} for each in ("leave_one_out", "occlusion", "grad_cam")},
    }
    assert warnings(content) == {
        "attention": "Not shown to be faithful: no patient has two images.",
        "grad_cam": "Not shown to be faithful: blurring pixels in its order is not better than "
        "random, reverse.",
        "occlusion": "Not shown to be faithful: untrained it correlates 0.50 with itself, two "
        "folds from 0.40.",
    }


@pytest.mark.parametrize(("words", "says"), [
    (["control={folder}/pixels"], "other patients, folds or model than"),
    (["truth={folder}/none.json"], "none.json"),
    (["truth={folder}/one_kind.csv", "patients=[{patient}]"], "images of both kinds"),
    (["truth={folder}/one_kind.csv"], "no truth for image"),
    (["truth={folder}/one_kind.csv", "checks=false"], "leave control and truth out"),
    (["truth={folder}/one_kind.csv", "methods=[measures]"], "need a labelled patient"),
])  # fmt: skip
def test_checks_that_cannot_be_made_are_refused_in_a_line(trained, cohort, capsys, words, says):
    run = trained / "vectors"
    patient, *_ = pd.read_csv(run / "folds.csv")["patient"]
    names = sorted(path.name for path in (cohort / "trainset" / patient).iterdir())
    rows = pd.DataFrame({"patient": patient, "image": names, "truth": 1})
    rows.to_csv(trained / "one_kind.csv", index=False)
    filled = [word.format(folder=trained, patient=patient) for word in words]
    assert says in refused(
        capsys, "explain", *places(run, cohort), f"out={trained / 'no'}", *filled
    )
    assert not (trained / "no").exists()


def test_a_control_of_other_folds_is_refused(trained, cohort, capsys, monkeypatch):
    run, real = trained / "vectors", checks.check_run

    def of_others(*args):
        models = real(*args).items()
        return {fold: model.model_copy(update={"patients": {}}) for fold, model in models}

    monkeypatch.setattr(checks, "check_run", of_others)
    printed = refused(capsys, "explain", *places(run, cohort), f"control={run}")
    assert "other patients, folds or model than" in printed


@pytest.mark.slow
def test_drawn_cells_are_found_by_a_run_and_not_by_its_control(tmp_path, monkeypatch):
    """Real drawings, measured; the control saw each patient's label with another's cells."""
    drawn = replace(population.POPULATION, clear=CLEAR["few"], clear_share=1.0)
    monkeypatch.setattr(population, "POPULATION", drawn)
    folder = tmp_path / "cohort"
    synthesize(folder, patients=36, test_patients=3, images=(12, 18), size=80, seed=0)
    for name, words in (("run", []), ("control", ["data.shuffle_bag_labels=true"])):
        config = configuration(folder, tmp_path / "cache", *VECTORS, *words)
        cross_validate(config, tmp_path / name)
    main(["explain", *places(tmp_path / "run", folder), f"truth={folder / 'truth.json'}",
          f"control={tmp_path / 'control'}"])  # fmt: skip
    found = json.loads((tmp_path / "run" / "explanations" / "faithfulness.json").read_text())
    auroc = {each["model"]: each["value"] for each in found["truth"]}
    assert auroc["run"] >= 0.95
    assert auroc["control"] < 0.9 > auroc["untrained"]
