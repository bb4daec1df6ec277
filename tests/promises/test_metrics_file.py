"""Results of a finished run: damaged, and averaged over repeats."""

import json
import shutil

import pandas as pd
import pytest

from lymphoml.core.errors import InputError
from lymphoml.evaluation.metrics import SCORES, score_fold
from lymphoml.evaluation.summary import over_repeats
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.predict import predict
from lymphoml.runs.run_folder import read_predictions_csv
from tests.promises.jobs import CLINICAL, configuration

DAMAGED = {
    "cut short": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "without the score": lambda text: json.dumps(json.loads(text) | {"balanced_accuracy": None}),
    "with a text for a score": lambda text: json.dumps({"balanced_accuracy": {"value": "high"}}),
    "nested": lambda text: "[" * 100_000,
    "not a number": lambda text: '{"balanced_accuracy": {"value": NaN}}',
}


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    words = (*CLINICAL, "trainer.max_epochs=1", "data.repeats=3")
    config = configuration(cohort, folder / "cache", *words)
    cross_validate(config, folder / "run")
    return config, folder / "run"


@pytest.mark.promise(
    "metrics.json of a finished run cut short, emptied or rewritten, and the same command again",
    "one line that names the file and how to fix it; without it the same scores are made again",
)
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_one_line(damage, finished, tmp_path):
    config, run = finished[0], shutil.copytree(finished[1], tmp_path / "run")
    path = run / "metrics.json"
    good = path.read_text()
    path.write_text(DAMAGED[damage](good))
    with pytest.raises(InputError, match=r"metrics\.json .*remove it") as caught:
        cross_validate(config, run)
    assert len(caught.value.problems) == 1
    if damage == "empty":
        path.unlink()
        cross_validate(config, run)
        assert path.read_text() == good


@pytest.mark.promise(
    "the average over repeats would contain predictions by models trained on the patient",
    "it is the mean of the models that held the patient out, computed again from checkpoints",
)
def test_no_averaged_model_was_trained_on_the_patient(finished, tmp_path, record_property):
    config, run = finished
    folds = read_predictions_csv(run / "folds.csv", ["patient", "fold"])
    for fold, held_out in folds.groupby("fold")["patient"]:
        found = read_predictions_csv(run / f"fold-{fold}" / "predictions.csv")["patient"]
        assert sorted(found) == sorted(held_out)
    average = over_repeats(read_predictions_csv(run / "predictions.csv")).set_index("patient")
    # `predict` uses for each labelled patient the models that were not trained on that patient.
    again = predict(run, {run: config}, tmp_path, "all", ("ID", "LABEL")).set_index("patient")
    labels, again = average["label"], again.loc[average.index, "probability"]
    pd.testing.assert_series_equal(average["probability"], again, rtol=1e-4)
    scores = json.loads((run / "metrics.json").read_text())["averaged"]["scores"]["all"]
    expected = score_fold(labels, again)
    for name in SCORES:
        assert scores[name]["value"] == pytest.approx(expected[name], abs=1e-4)
    record_property("tried", len(average))
