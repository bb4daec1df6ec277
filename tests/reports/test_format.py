import io
import json
import math

from rich.console import Console

from lymphoml.reports.format import format_estimate, format_p, format_score, format_setting
from lymphoml.reports.run_summary import print_run
from tests.reports.fabricate import edit_json, make_full_run, make_run


def test_scores_and_estimates():
    assert [format_score(value) for value in (0.8124, -0.1, math.nan)] == ["0.812", "−0.100", "n/a"]
    signed = [format_score(value, signed=True) for value in (0.04, -0.0001, None)]
    assert signed == ["+0.040", "0.000", "n/a"]
    score = {"value": 0.5, "low": -0.25, "high": 0.75}
    assert format_estimate(score) == "0.500 [−0.250, 0.750]"
    assert format_estimate(score, signed=True) == "+0.500 [−0.250, +0.750]"
    assert format_estimate(score | {"low": None}) == "0.500 (no interval)"
    assert format_estimate(None) == "n/a"
    assert [format_p(p) for p in (0.0004, 0.0317, math.nan)] == ["< 0.001", "0.032", ""]


def test_settings_show_no_path_of_the_machine():
    assert format_setting("/home/someone/mine.csv") == ".../mine.csv"
    assert [format_setting(value) for value in (True, None, [1, 2], [])] == [
        "yes", "none", "1, 2", "none",
    ]  # fmt: skip


def printed(run):
    print_run(run, Console(file=(out := io.StringIO()), width=200, soft_wrap=True))
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
