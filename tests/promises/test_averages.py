"""Averages over repeats, and runs that were scored before there were any"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from lymphoml.cli.main import main
from lymphoml.evaluation.metrics import SCORES, score_fold
from lymphoml.evaluation.strata import over_repeats
from lymphoml.reports.run_summary import print_run
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.runs.predict import predict
from lymphoml.runs.tables import read_predictions_csv
from tests.promises.jobs import CLINICAL, configuration

NEWER = {"specificity_at_95", "averaged", "nested_95"}


@pytest.fixture(scope="module")
def finished(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("averages")
    config = configuration(cohort, folder / "cache", *CLINICAL, "data.repeats=3")
    cross_validate(config, folder / "runs" / "one")
    return config, folder / "runs" / "one"


@pytest.mark.promise(
    "the average over repeats would hold what a model says of a patient whom it trained on",
    "it is the mean of what the models that held the patient out say, made again from checkpoints",
)
def test_no_averaged_model_has_trained_on_the_patient(finished, tmp_path, record_property):
    config, run = finished
    folds = read_predictions_csv(run / "folds.csv", ["patient", "fold"])
    for fold, held_out in folds.groupby("fold")["patient"]:
        told = read_predictions_csv(run / f"fold-{fold}" / "predictions.csv")["patient"]
        assert sorted(told) == sorted(held_out)
    rows = read_predictions_csv(run / "predictions.csv")
    ours = over_repeats(rows).set_index("patient")
    # `predict` asks of each labelled patient the models that did not train on that patient alone.
    again = predict(run, {run: config}, tmp_path, "all", ("ID", "LABEL")).set_index("patient")
    labels, again = ours["label"], again.loc[ours.index, "probability"]
    pd.testing.assert_series_equal(ours["probability"], again, rtol=1e-4)
    scores = json.loads((run / "metrics.json").read_text())["averaged"]["scores"]["all"]
    expected = score_fold(labels, again)
    for name in SCORES:
        assert scores[name]["value"] == pytest.approx(expected[name], abs=1e-4)
    record_property("tried", len(ours))


@pytest.mark.promise(
    "a run that was scored before a score was added",
    "terminal, page, comparison, sweep table and triage read it, and leave out what it lacks",
)
def test_a_run_that_lacks_the_newer_scores_is_read(finished, tmp_path, monkeypatch, capsys):
    _, run = finished
    monkeypatch.chdir(tmp_path)
    for name in ("old", "other"):
        copy = tmp_path / "runs" / name
        shutil.copytree(run, copy)
        metrics = json.loads((copy / "metrics.json").read_text())
        (copy / "metrics.json").write_text(json.dumps(without(metrics, NEWER)))
    old = Path("runs/old")
    print_run(old)
    main(["report", f"run={old}", "thumbnails=false"])
    main(["compare", "runs=runs", "resamples=100"])
    main(["report", "runs=runs", "thumbnails=false"])
    main(["ablation", "runs=runs"])
    main(["triage", f"run={old}", "sensitivity=0.8"])
    shown = capsys.readouterr().out + (old / "report.html").read_text()
    assert "averaged over" not in shown
    assert "pecificity at sensitivity" not in shown
    assert (old / "triage.json").is_file()


def without(told, names):
    """Of nested mappings and lists, all but the keys `names`."""
    if isinstance(told, list):
        return [without(each, names) for each in told]
    if not isinstance(told, dict):
        return told
    return {key: without(each, names) for key, each in told.items() if key not in names}
