import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console

from lymphoml.cli.main import _run
from lymphoml.core.errors import InputError
from lymphoml.reports.comparison.compare import compare_runs
from lymphoml.reports.format import format_estimate, format_interval, format_p, format_score
from lymphoml.reports.page import Choices
from lymphoml.reports.page import page as page_module
from lymphoml.reports.page.page import SECTIONS, write_overview, write_report
from lymphoml.reports.triage import set_rule
from lymphoml.runs.test_set_log import record
from tests.reports.fabricate import (
    config,
    edit_json,
    list_files,
    make_predictions,
    make_run,
    make_run_of,
    make_small_run,
)


@pytest.fixture(scope="module")
def least(tmp_path_factory):
    """A run without any optional file."""
    path = make_small_run(tmp_path_factory.mktemp("runs") / "lr=1e-3")
    (path / "environment.json").unlink()
    list_files(path)
    return path


@pytest.fixture(scope="module")
def full(cohort, tmp_path_factory):
    """A run with everything that a page can show."""
    path = make_run_of(cohort, tmp_path_factory.mktemp("runs") / "full")
    set_rule(path, 0.8, "average", None, Console(file=io.StringIO()))
    record(path, "predict", "ab", 4)
    with (path / "ledger.jsonl").open("a") as file:
        file.write("half a li")
    return path


class Balance(HTMLParser):
    """Collects tags that are closed in another order than opened."""

    VOID = frozenset(("meta", "br", "hr", "img", "link", "input"))

    def __init__(self):
        super().__init__()
        self.open, self.wrong = [], []

    def handle_starttag(self, tag, attributes):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("which", ["least", "full"])
def test_the_page_is_well_formed_and_makes_no_request(which, request):
    run = request.getfixturevalue(which)
    page = write_report(run, run / "page.html").read_text()
    assert "http" not in page.replace("http-equiv", "")
    assert not re.search(r'(src|href)="(?!#|data:image/webp;base64,)', page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page  # the browser refuses everything else
    assert "Not a medical device" in page
    parser = Balance()
    parser.feed(page)
    assert (parser.wrong, parser.open) == ([], [])
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', page)) <= set(ids)
    assert page.count('role="img" aria-label="') == page.count('<svg class="chart"') >= 8
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    for name in SECTIONS.keys() - {"validation", "repeatability"}:  # there where it was measured
        assert f'href="#{name}"' in page
        assert f'<h2 id="{name}-title">' in page


def test_a_full_run_shows_everything(full):
    page = write_report(full, full / "page.html").read_text()
    metrics = json.loads((full / "metrics.json").read_text())
    assert format_estimate(metrics["gain"]["all"]["balanced_accuracy"], signed=True) in page
    clinical = metrics["baselines"]["logistic_regression"]["hard"]
    assert format_score(clinical["auroc"]["value"]) in page
    rule = json.loads((full / "triage.json").read_text())
    assert f"below <strong>{rule['threshold']:.4f}</strong>" in page
    assert f"abstains: needs {rule['n_tumoral_needed']['confidence']} tumoral" in page
    assert "1 line unreadable" in page
    assert page.count('src="data:image/webp;base64,') > 40
    assert page.count("<title>") > 100  # tooltips
    bare = write_report(full, full / "bare.html", Choices(thumbnails=False)).read_text()
    assert "<img" not in bare
    assert "thumbnails=false" in bare


def test_no_patient_is_named_unless_chosen(full, tmp_path):
    audit = tmp_path / "audit.json"
    finding = {"severity": "warning", "what": "one", "where": ["P1, P999"]}
    audit.write_text(json.dumps({"findings": [finding]}))
    names = set(re.findall(r"^(P\d+),", (full / "predictions.csv").read_text(), re.MULTILINE))
    assert len(names) == 16
    page = write_report(full, tmp_path / "page.html", Choices(audit=audit)).read_text()
    page = re.sub(r"base64,[^\"]*", "", page)
    assert not names & set(re.findall(r"\w+", page))
    assert "P999" not in page
    assert "0.jpg" not in page  # nor is a file
    page = write_report(full, tmp_path / "page.html", Choices(ids=True)).read_text()
    assert names <= set(re.findall(r"\w+", page))


def test_pages_are_reproducible_and_pictures_shrink_to_the_limit(full, tmp_path, monkeypatch):
    first, second = (write_report(full, tmp_path / name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    size = first.stat().st_size
    assert size < page_module.LIMIT / 2
    monkeypatch.setattr(page_module, "LIMIT", size - 1)
    smaller = write_report(full, tmp_path / "smaller.html")
    assert smaller.stat().st_size < size
    assert "<img" in smaller.read_text()


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_what_is_missing_or_no_audit_is_refused_and_nothing_is_written(tmp_path, content):
    path = make_small_run(tmp_path / "run")
    audit, out = tmp_path / "audit.json", tmp_path / "page.html"
    audit.write_text(content)
    with pytest.raises(InputError, match=r"audit\.json"):
        write_report(path, out, Choices(audit=audit))
    (path / "fold-1" / "done.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        write_report(path, out)
    assert not out.exists()


# Of a sweep


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
    with pytest.raises(InputError, match="tried=9: has no effect on one run"):
        write_overview(paths[:1], sweep / "report.html", tried=9)
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
