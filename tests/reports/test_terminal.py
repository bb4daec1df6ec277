"""What a finished run says in the terminal, against its metrics.json."""

import io
import json

import pytest
from rich.console import Console

from lymphoml.evaluation.summary import summarise
from lymphoml.reports.run_summary import print_run
from lymphoml.runs.finished_run import read_run
from tests.reports.enrich import enrich, forget
from tests.reports.fabricate import config, make_run


def told(run):
    out = io.StringIO()
    print_run(run, Console(file=out, width=200, soft_wrap=True))
    return out.getvalue()


def interval(score):
    return f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"


@pytest.fixture
def repeated(tmp_path):
    """Three repeats with a hard stratum and a clinical baseline."""
    path = make_run(tmp_path / "run", config(**{"data.repeats": 3}), n=90, epochs=2, skill=2.0)
    run = read_run(path)
    strata = run.predictions.drop_duplicates("patient").set_index("patient")[["label"]]
    strata = strata.assign(hard=[str(i % 2) for i in range(len(strata))])[["hard"]]
    baselines = run.predictions[["patient", "fold"]].assign(
        logistic_regression=run.predictions["probability"] ** 2
    )
    metrics = summarise(run.predictions, run.histories, 5, strata, baselines, 8.0)
    (path / "metrics.json").write_text(json.dumps(metrics))
    return path, metrics


def test_specificity_stands_beside_what_other_thresholds_reach(repeated):
    path, metrics = repeated
    lines = told(path).splitlines()
    place = next(i for i, line in enumerate(lines) if "specificity at sensitivity 0.95" in line)
    clinical = metrics["baselines"]["logistic_regression"]["all"]["specificity_at_95"]
    assert interval(metrics["scores"]["all"]["specificity_at_95"]) in lines[place]
    assert f"clinical values alone {interval(clinical)}" in lines[place]
    nested = metrics["thresholds"]["nested_95"]
    assert lines[place + 1].strip().startswith("thresholds from the other folds")
    for name in ("sensitivity", "specificity"):
        assert f"{name} {interval(nested[name])}" in lines[place + 1]


def test_the_average_over_repeats_is_told_apart_in_both_strata(repeated):
    path, metrics = repeated
    before, _, after = told(path).partition("averaged over 3 repeats, as predict does:")
    for part in ("all", "hard"):
        for name in ("balanced_accuracy", "auroc"):
            averaged, single = (
                told["scores"][part][name] for told in (metrics["averaged"], metrics)
            )
            assert interval(single) in before
            assert interval(averaged) in after
            assert averaged != single
            gain = metrics["averaged"]["gain"][part][name]
            assert f"gain {gain['value']:+.3f}" in after


def test_a_single_repeat_has_no_average(tmp_path):
    assert "averaged" not in told(make_run(tmp_path / "run", epochs=2))


def test_a_hard_stratum_without_its_cut_is_told_without_it(repeated):
    path, metrics = repeated
    assert "hard stratum (up to 8) " in told(path)
    (path / "metrics.json").write_text(json.dumps(metrics | {"hard_max": None}))
    assert "AUROC, hard stratum  " in told(path)
    del metrics["hard_max"]
    (path / "metrics.json").write_text(json.dumps(metrics))
    assert "AUROC, hard stratum  " in told(path)


def test_an_earlier_versions_run_tells_what_it_has(tmp_path):
    path = enrich(make_run(tmp_path / "run", epochs=2))  # scores, and not the newer ones
    shown = told(path)
    assert "AUROC, hard stratum (up to 8)" in shown
    assert "specificity at" not in shown
    assert "thresholds from" not in shown
    assert "scored by an earlier version" in told(forget(path))
