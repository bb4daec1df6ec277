import json

import pytest

from lymphoml.cli.main import _run
from lymphoml.core.errors import InputError
from lymphoml.reports.comparison.compare import compare_runs
from lymphoml.reports.format import format_estimate, format_interval, format_p, format_score
from lymphoml.reports.page.page import write_overview
from tests.reports.fabricate import config, edit_json, make_predictions, make_run, make_small_run


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "sweep"
    same = make_predictions(30, 2, 1, 2.0, seed=0)
    worse = same.assign(probability=1 - same["probability"])
    for name, predictions in (("lr=0.1,a b", worse), ("lr=0.2", same)):
        settings = config(**{"data.folds": 2, "lr": float(name[3:6])})
        make_run(folder / name, settings, epochs=2, predictions=predictions)
    return folder


def test_a_sweep_has_a_page_that_links_to_each_runs_own(sweep, tmp_path, capsys):
    _run(["report", f"runs={sweep}"])
    assert capsys.readouterr().out.strip() == str(sweep / "report.html")
    page = (sweep / "report.html").read_text()
    best, worst = 'href="lr%3D0.2/report.html"', 'href="lr%3D0.1%2Ca%20b/report.html"'
    assert 0 < page.index(best) < page.index(worst)
    assert (sweep / "lr=0.1,a b" / "report.html").exists()
    assert page.count('<svg class="chart"') == 2
    assert str(sweep) not in page
    out = tmp_path / "elsewhere" / "page.html"
    _run(["report", f"runs=['{sweep / 'lr=0.2'}','{sweep / 'lr=0.1,a b'}']", f"out={out}"])
    assert "lr 0.2" in out.read_text()
    assert "../" not in out.read_text()  # nor the folders above


def test_two_runs_of_one_configuration_and_folder_name_are_two_rows(tmp_path):
    paths = [make_small_run(tmp_path / name / "default") for name in ("first", "second")]
    page = write_overview([*paths, paths[0]], tmp_path / "page.html").read_text()
    for name in ("first/default", "second/default"):
        assert f'{name}/report.html">{name}</a>' in page


@pytest.mark.parametrize("overrides", [
    [], ["run=a", "runs=b"], ["run=a", "prevalence=0"], ["run=a", "prevalence=1.2"],
    ["run=a", "data.crop=1"],
])  # fmt: skip
def test_invalid_options_are_refused(overrides):
    with pytest.raises(InputError):
        _run(["report", *overrides])


def test_the_page_shows_what_compare_finds_scores_and_changed_environments(sweep):
    change = {"what": "version of torch", "before": "1", "now": "2"}
    session = {"when": "2026-01-01T00:00:00+00:00", "changes": [change]}
    edit_json(sweep / "lr=0.2" / "environment.json", changes=[session])
    paths = [sweep / "lr=0.2", sweep / "lr=0.1,a b"]
    page = write_overview(paths, sweep / "report.html", reference="lr=0.2", tried=9).read_text()
    page = " ".join(page.split())
    assert page.count("changed</small>") == 1  # of two
    metrics = json.loads((sweep / "lr=0.2" / "metrics.json").read_text())
    assert format_score(metrics["scores"]["all"]["specificity_at_95"]["value"]) in page
    found = compare_runs(paths, paths[0], tried=9).strata["all"]
    row = found.table[found.table["run"] == "lr=0.1,a b"].iloc[0]
    assert format_score(row["difference"], signed=True) in page
    limits = {"low": row["difference_low"], "high": row["difference_high"]}
    assert format_interval(limits, signed=True) in page
    assert format_p(row["p_holm"]).replace("<", "&lt;") in page
    best = found.best["auroc"]
    assert format_estimate({"value": best.expected, "low": best.low, "high": best.high}) in page
    assert "Configurations tried: 9" in page
