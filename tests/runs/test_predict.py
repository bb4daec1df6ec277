"""New patients, by the folds of a finished run."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from lymphoml.cli.config import run_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError
from lymphoml.data.cohort import load_cohort
from lymphoml.runs.cohort_shift import CohortShift
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.predict import check_run, fold_probabilities, predict
from tests.reports.fabricate import list_files
from tests.runs.test_cross_validation import CLINICAL


@pytest.fixture(scope="module")
def with_images(configured, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "images"
    cross_validate(configured("trainer.max_epochs=1"), run)
    return run


@pytest.fixture(scope="module")
def clinical(configured, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "clinical"
    cross_validate(configured(*CLINICAL), run)
    return run


@pytest.fixture
def copied(clinical, tmp_path):
    return shutil.copytree(clinical, tmp_path / "run")


def predicted(run, cohort, out, patients="all", header=("ID", "LABEL"), **data):
    config = run_config(run, {"root": str(cohort)} | data, {})
    return predict(run, {run: config}, out, patients, header).set_index("patient")


def stored_predictions(run):
    return pd.read_csv(run / "predictions.csv").set_index("patient")["probability"]


def test_the_held_out_patients_get_their_stored_predictions(with_images, tmp_path, cohort, cache):
    stored = stored_predictions(with_images)
    table = predicted(with_images, cohort, tmp_path / "out", cache=str(cache))
    assert len(table) == 16 + 3
    np.testing.assert_array_equal(table.loc[stored.index, "probability"], stored)


def test_the_test_patients_get_the_mean_over_folds(copied, tmp_path, cohort):
    table = predicted(copied, cohort, tmp_path / "out", "unlabelled", ("Id", "Predicted"))
    written = pd.read_csv(tmp_path / "out" / "submission.csv")
    assert list(written) == ["Id", "Predicted"]
    test = pd.read_csv(cohort / "testset" / "testset_data.csv")
    assert sorted(written["Id"]) == sorted(test["ID"])
    assert list(table) == ["probability", "standard_deviation", "lowest", "highest", "label",
                           "outside_range"]  # fmt: skip
    assert (table["label"] == (table["probability"] > 0.5)).all()
    config = run_config(copied, {"root": str(cohort)}, {})
    new = load_cohort(config.data).unlabelled
    folds = fold_probabilities(copied, config, new, [0, 1], CohortShift())
    np.testing.assert_array_equal(table["probability"], folds.mean(axis=1))
    np.testing.assert_array_equal(table[["lowest", "highest"]], np.sort(folds, axis=1))


def test_a_rule_adds_a_column_and_leaves_the_rest_alone(copied, tmp_path, cohort, capsys):
    out = copied / "test"
    main(["predict", f"run={copied}", f"data.root={cohort}"])
    bare, submission = pd.read_csv(out / "predictions.csv"), (out / "submission.csv").read_bytes()
    main(["triage", f"run={copied}", "sensitivity=0.5"])
    main(["predict", f"run={copied}", f"data.root={cohort}"])
    table = pd.read_csv(out / "predictions.csv")
    assert list(table) == [*bare, "triage"]
    pd.testing.assert_frame_equal(table[list(bare)], bare)
    assert (out / "submission.csv").read_bytes() == submission
    (copied / "triage.json").write_text("{}")
    with pytest.raises(InputError, match=r"triage\.json"):
        predicted(copied, cohort, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("change", "message"), [
    ({"resize": 16}, r"data\.resize: comes from the run"),
    ({"columns": {"lymphocyte_count": {"log": False}}}, "clinical columns"),
    ({"columns": {"age": {"calendar_years": True}}}, "clinical columns"),
    ({"root": "nowhere"}, "nowhere"),
])  # fmt: skip
def test_a_cohort_of_another_schema_is_refused(
    with_images, tmp_path, cohort, cache, change, message
):
    with pytest.raises(InputError, match=message):
        predicted(with_images, cohort, tmp_path / "out", **{"cache": str(cache)} | change)
    assert not (tmp_path / "out").exists()


def test_folds_of_different_inputs_do_not_predict_together(with_images, copied, tmp_path, cohort):
    """Where the model uses images: a clinical one has the same inputs whatever pixels become."""
    images = shutil.copytree(with_images, tmp_path / "images")
    for run in (images, copied):
        environment = json.loads((run / "environment.json").read_text())
        change = {"what": "data.normalize_images", "before": False, "now": True}
        session = {"when": "2026-11-20T08:00:00+00:00", "changes": [change]}
        (run / "environment.json").write_text(json.dumps(environment | {"changes": [session]}))
        list_files(run)
    configs = [run_config(run, {"root": str(cohort)}, {}) for run in (images, copied)]
    with pytest.raises(InputError, match=r"data\.normalize_images changed while it was trained"):
        check_run(images, configs[0])
    assert list(check_run(copied, configs[1])) == [0, 1]
