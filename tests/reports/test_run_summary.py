"""What is printed of a run, against its metrics.json."""

import io
import json

from rich.console import Console

from lymphoml.reports.format import format_estimate
from lymphoml.reports.run_summary import print_run
from tests.reports.fabricate import edit_json, make_full_run, make_run


def printed(run):
    out = io.StringIO()
    print_run(run, Console(file=out, width=200, soft_wrap=True))
    return out.getvalue()


def test_scores_stand_with_the_clinical_baselines_and_the_means_over_repeats(tmp_path):
    path = make_full_run(tmp_path / "run", **{"data.repeats": 3})
    metrics = json.loads((path / "metrics.json").read_text())
    text = printed(path)
    for values in (metrics, metrics["averaged"]):
        for stratum in ("all", "hard"):
            clinical = values["baselines"]["logistic_regression"][stratum]
            for score in ("balanced_accuracy", "auroc"):
                for shown in (values["scores"][stratum][score], clinical[score]):
                    assert format_estimate(shown) in text
                assert format_estimate(values["gain"][stratum][score], signed=True) in text
        assert format_estimate(values["scores"]["all"]["specificity_at_95"]) in text
    for name in ("sensitivity", "specificity"):
        assert format_estimate(metrics["thresholds"]["nested_95"][name]) in text
    assert "hard stratum (up to 8)" in text
    edit_json(path / "metrics.json", hard_max=None)
    assert "AUROC, hard stratum " in printed(path)


def test_an_unfinished_run_shows_its_finished_folds(tmp_path):
    path = make_run(tmp_path / "run", epochs=2)
    (path / "metrics.json").unlink()
    (path / "fold-3" / "done.json").unlink()
    lines = printed(path).splitlines()
    assert len(lines) == 5
    assert lines[3] == "fold 3: not done"
    assert "18 patients" in lines[0]
