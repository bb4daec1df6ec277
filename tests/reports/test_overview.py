import html
import json

import pytest

from lymphoml.cli.main import _run
from lymphoml.core.errors import InputError
from lymphoml.reports.comparison.terminal import told_p
from lymphoml.reports.page.chart_plotly import plotly_bundle
from lymphoml.reports.page.overview import write_overview
from lymphoml.reports.page.wording import interval, score, signed
from tests.reports.fabricate import config, make_predictions, make_run


def overview(folder):
    """In one line, without plotly."""
    paths = sorted(path for path in folder.iterdir() if path.is_dir())
    page = write_overview(paths, folder / "report.html").read_text()
    return " ".join(page.replace(plotly_bundle(), "").split())


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "sweep"
    same = make_predictions(30, 2, 1, 2.0, seed=0)
    worse = same.assign(probability=1 - same["probability"])
    for name, predictions in (("lr=0.1,a b", worse), ("lr=0.2", same)):
        settings = config(**{"data.folds": 2, "lr": float(name[3:6])})
        make_run(folder / name, settings, epochs=2, predictions=predictions)
    return folder


def test_a_sweep_has_a_page_that_leads_to_each_runs_own(sweep, capsys):
    _run(["report", f"runs={sweep}"])
    assert capsys.readouterr().out.strip() == str(sweep / "report.html")
    page = (sweep / "report.html").read_text().replace(plotly_bundle(), "")
    assert page.index('href="lr%3D0.2/report.html"') < page.index(
        'href="lr%3D0.1%2Ca%20b/report.html"'
    )  # the best first
    assert (sweep / "lr=0.1,a b" / "report.html").exists()
    assert "The highest of 2 scores" in " ".join(page.split())
    assert page.count('class="chart') == 2
    assert str(sweep) not in page


def test_runs_can_be_named_one_by_one(sweep, tmp_path):
    out = tmp_path / "elsewhere" / "page.html"
    _run(["report", f"runs=['{sweep / 'lr=0.2'}','{sweep / 'lr=0.1,a b'}']", f"out={out}"])
    page = out.read_text().replace(plotly_bundle(), "")
    assert "lr 0.2" in page
    assert "../" not in page  # nor the folders above
    assert "Each name leads" not in page


def test_two_runs_of_one_configuration_and_folder_name_are_two_rows(tmp_path):
    same = make_predictions(30, 2, 1, 2.0, seed=0)
    paths = [tmp_path / name / "default" for name in ("first", "second")]
    for path in paths:
        make_run(path, config(**{"data.folds": 2}), epochs=2, predictions=same)
    page = write_overview([*paths, paths[0]], tmp_path / "page.html").read_text()
    assert ">2 runs of" in page
    for name in ("first/default", "second/default"):
        assert f'{name}/report.html">{name}</a>' in page
        assert f"{name}: 0." in page  # its row in the chart


def test_runs_on_other_folds_are_refused_and_nothing_is_written(sweep, tmp_path):
    make_run(sweep / "z", config(**{"data.folds": 2}), n=33, epochs=2)
    with pytest.raises(InputError, match="z: other patients or folds than"):
        write_overview([sweep / "lr=0.2", sweep / "z"], tmp_path / "page.html")
    assert not list(tmp_path.rglob("*.html"))


@pytest.mark.parametrize("words", [[], ["run=a", "runs=b"]])
def test_one_run_or_several_must_be_asked_for(words):
    with pytest.raises(InputError, match="give run=RUN for one run, or runs="):
        _run(["report", *words])


def test_one_run_has_its_page_in_its_folder(sweep, capsys):
    run = sweep / "lr=0.2"
    _run(["report", f"run={run}", "ids=true"])
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert "Zebra1" in (run / "report.html").read_text()


@pytest.mark.parametrize("prevalence", [0, 1.2])
def test_a_prevalence_is_a_share(sweep, prevalence):
    with pytest.raises(InputError, match="give a share above 0 and below 1"):
        _run(["report", f"run={sweep / 'lr=0.2'}", f"prevalence={prevalence}"])


def test_a_comparison_beside_the_runs_stands_on_their_page(sweep, capsys):
    assert "Paired differences" not in overview(sweep)
    _run(["compare", f"runs={sweep}", "reference=lr=0.2", "resamples=200"])
    told = capsys.readouterr().out
    page = overview(sweep)
    row = json.loads((sweep / "comparison.json").read_text())["runs"][-2]
    assert (row["run"], row["score"]) == ("lr=0.1,a b", "balanced_accuracy")
    for value in (row["difference"], row["difference_low"], row["difference_high"]):
        assert signed(value) in page
    assert "differences to lr 0.2 on the same patients" in page
    assert told_p(row["p_holm"]) in html.unescape(page)
    smallest, best = (
        next(line for line in told.splitlines() if line.startswith(start))
        for start in ("Smallest difference", "Best of 2")
    )
    assert smallest in page
    assert best.replace("lr=0.2", "lr 0.2") in page


@pytest.mark.parametrize("change", ["damaged", "other scores", "other runs"])
def test_a_comparison_of_other_runs_is_not_shown(sweep, change):
    _run(["compare", f"runs={sweep}", "resamples=200"])
    file = sweep / "comparison.json"
    content = json.loads(file.read_text())
    if change == "damaged":
        del content["best"]
    elif change == "other scores":
        content["runs"][0]["value"] -= 0.1
    else:
        for row in content["runs"]:
            row["run"] = row["run"].replace("0.1", "0.3")
    file.write_text(json.dumps(content))
    page = overview(sweep)
    assert "Paired differences" not in page
    assert "is of other runs than these, or damaged" in page


def test_each_run_tells_whom_it_spares(sweep):
    page = overview(sweep)
    assert '<th scope="col">Specificity at sensitivity 0.95</th>' in page
    metrics = json.loads((sweep / "lr=0.2" / "metrics.json").read_text())
    told = metrics["scores"]["all"]["specificity_at_95"]
    assert f"<b>{score(told['value'])}</b> <small>{interval(told)}</small>" in page


def test_a_run_that_drifted_is_marked(sweep):
    assert "drifted</small>" not in overview(sweep)
    path = sweep / "lr=0.2" / "environment.json"
    change = {"what": "version of torch", "before": "1", "now": "2"}
    session = {"when": "2026-01-01T00:00:00+00:00", "changes": [change]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"drift": [session]}))
    page = overview(sweep)
    assert page.count("drifted</small>") == 1
    assert "Drifted: code, libraries, data or machine changed" in page
