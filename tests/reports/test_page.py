import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console

from lymphoml.core.errors import InputError
from lymphoml.reports.page import page as page_module
from lymphoml.reports.page.chart_plotly import plotly_bundle
from lymphoml.reports.page.choices import Choices
from lymphoml.reports.page.contents import SECTIONS
from lymphoml.reports.page.page import write_report
from lymphoml.reports.triage import set_rule
from lymphoml.runs.test_set_log import record
from tests.reports.enrich import enrich, forget, make_run_of
from tests.reports.fabricate import config, make_run

LIMIT = 8_000_000  # bytes


def small(path, **changes):
    """A run of two folds: a page draws a panel for each."""
    return make_run(path, config(**{"data.folds": 2, **changes}), n=30, epochs=2)


def read(page):
    """Without plotly, whose two megabytes say nothing."""
    return page.read_text().replace(plotly_bundle(), "")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return forget(make_run(tmp_path_factory.mktemp("runs") / "lr=1e-3", n=60, epochs=6))


@pytest.fixture(scope="module")
def page(run):
    """Of a run that an earlier version left: the least there can be."""
    return read(write_report(run, run.parent / "page.html"))


@pytest.fixture(scope="module")
def full(cohort, tmp_path_factory):
    """All that there can be."""
    path = enrich(make_run_of(cohort, tmp_path_factory.mktemp("runs") / "full"))
    set_rule(path, 0.5, "average", None, Console(file=io.StringIO()))
    record(path, "predict", "ab", 4)
    with (path / "ledger.jsonl").open("a") as file:
        file.write("half a li")
    return path


class Balance(HTMLParser):
    """Collects tags that are closed in another order than opened."""

    VOID = frozenset(("meta", "br", "hr", "img", "link", "input"))

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.tags = [], [], set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("which", ["page", "full"])
def test_the_page_needs_nothing_from_elsewhere(which, page, full):
    text = page if which == "page" else read(write_report(full, full / "page.html"))
    assert "http" not in text.replace("http-equiv", "")
    assert not re.search(r'(src|href)="(?!#|data:image/webp;base64,)', text)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text  # whatever slips in is refused by the browser


def test_the_page_is_well_formed_and_its_ids_are_unique(page):
    parser = Balance()
    parser.feed(page)
    assert parser.wrong == []
    assert parser.open == []
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', page)) <= set(ids)
    assert page.count('role="img" aria-label="') == page.count('<svg class="static"')
    assert page.count('class="chart') >= page.count('<svg class="static"') >= 12


def test_headings_come_in_order_and_every_section_is_named(page):
    levels = [int(level) for level in re.findall(r"<h([1-6])", page)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    for section in SECTIONS:
        name = section.__name__.rpartition(".")[2]
        assert f'href="#{name}"' in page
        assert f'<h2 id="{name}-title">' in page


def test_the_scores_of_the_run_stand_on_it(run, page):
    metrics = json.loads((run / "metrics.json").read_text())
    for score in ("balanced_accuracy", "auroc"):
        for value in metrics[score].values():
            assert f"{value:.3f}" in page
    for fold in metrics["folds"]:
        assert f"{fold['best_epoch_balanced_accuracy']:.3f}" in page
    assert "optimistic" in page
    assert "40 tumoral, 20 reactive" in page
    assert "python train.py experiment=default data=synthetic" in page
    assert "This is no medical device" in page
    assert "has no clinical baseline" in page


def test_a_run_of_an_earlier_version_says_in_a_line_what_it_does_not_tell(page):
    assert page.count("an earlier version of lymphoml scored this run") == 3
    assert "lymphoml triage run=RUN" in page
    assert "lymphoml audit data.root=DIR" in page
    assert "No cells are shown" in page
    assert "No <code>ledger.jsonl</code> lies in" in page


def test_a_run_that_tells_all_shows_all(full):
    page = read(write_report(full, full / "page.html"))
    for told in ("0.621", "0.711", "0.654", "0.765", "0.682", "0.543", "0.876", "+0.042", "+0.001",
                 "−0.033", "0.032", "+0.037", "not estimable", "would be spared",
                 "exchangeable", "predictions made", "1 line of it cannot"):  # fmt: skip
        assert told in page, told
    assert "an earlier version" not in page
    assert "invalid: chosen on the patients" in page
    assert "more than the clinical values alone" in page
    assert page.count('src="data:image/webp;base64,') > 40


def test_no_patient_is_named_unless_asked(full, tmp_path):
    audit = tmp_path / "audit.json"
    audit.write_text(
        json.dumps(
            {"findings": [{"severity": "warning", "what": "balance_blocks", "where": ["P1, P999"]}]}
        )
    )
    names = set(re.findall(r"^(P\d+),", (full / "predictions.csv").read_text(), re.MULTILINE))
    assert len(names) == 15
    page = read(write_report(full, tmp_path / "page.html", Choices(audit=audit)))
    page = re.sub(r"base64,[^\"]*", "", page)
    assert not names & set(re.findall(r"\w+", page))
    assert "P999" not in page
    assert "0.jpg" not in page  # nor is a file
    page = write_report(full, tmp_path / "page.html", Choices(ids=True, audit=audit)).read_text()
    assert names <= set(re.findall(r"\w+", page))
    assert "P999" not in page


def test_pictures_can_be_left_out(full, tmp_path):
    page = read(write_report(full, tmp_path / "page.html", Choices(thumbnails=False)))
    assert "<img" not in page
    assert "thumbnails=false" in page


def test_two_pages_of_one_run_are_the_same_bytes(full, tmp_path):
    first, second = (write_report(full, tmp_path / name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < LIMIT


def test_what_a_configuration_says_is_never_markup(tmp_path):
    attack = '"><script>alert(1)</script>'
    places = {"name": attack, "tags": [attack], "data.crop": attack, "data.name": attack}
    path = enrich(small(tmp_path / "a<b>", **places))
    environment = {"command": attack, "versions": {attack: attack}, "hardware": attack}
    (path / "environment.json").write_text(json.dumps(environment))
    metrics = json.loads((path / "metrics.json").read_text())
    metrics["subgroups"][0]["group"] = attack
    metrics["baselines"][attack] = metrics["baselines"]["logistic_regression"]
    (path / "metrics.json").write_text(json.dumps(metrics))
    set_rule(path, 0.5, "average", None, Console(file=io.StringIO()))
    rule = json.loads((path / "triage.json").read_text()) | {"assumed": [attack]}
    (path / "triage.json").write_text(json.dumps(rule))
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"findings": [{"severity": attack, "what": attack}]}))
    page = write_report(path, tmp_path / "page.html", Choices(audit=audit)).read_text()
    assert "<script>alert" not in page
    assert "<b>alert" not in page
    assert page.count("&lt;script&gt;") >= 12
    own = page.count('<script type="application/json">') + 2  # of the charts; plotly's, the page's
    assert page.count("<script") == own


@pytest.mark.parametrize(
    ("content", "problem"),
    [("[]", "holds no mapping"), ("{}", "no list of findings"), ("{", "cannot be read")],
)
def test_a_file_that_is_no_audit_is_refused_and_nothing_is_written(tmp_path, content, problem):
    path = small(tmp_path / "run")
    (tmp_path / "audit.json").write_text(content)
    with pytest.raises(InputError, match=problem):
        write_report(path, tmp_path / "page.html", Choices(audit=tmp_path / "audit.json"))
    assert not (tmp_path / "page.html").exists()


def test_a_run_without_environment_still_has_a_page(tmp_path):
    path = small(tmp_path / "run")
    (path / "environment.json").unlink()
    assert "does not tell the command" in read(write_report(path, tmp_path / "page.html"))


def test_an_unfinished_run_has_no_page(tmp_path):
    path = small(tmp_path / "run")
    (path / "fold-1" / "done.json").unlink()
    with pytest.raises(InputError, match="fold 1 has no done") as caught:
        write_report(path, tmp_path / "page.html")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "page.html").exists()


def test_the_clinical_baseline_of_an_earlier_version_stands_beside_the_score(tmp_path):
    path = forget(small(tmp_path / "run"))
    metrics = json.loads((path / "metrics.json").read_text())
    clinical = {"balanced_accuracy": {"value": 0.7531, "low": 0.6442, "high": 0.8353}}
    metrics["baseline"]["clinical"] = clinical
    (path / "metrics.json").write_text(json.dumps(metrics))
    page = read(write_report(path, tmp_path / "page.html"))
    assert "<strong>0.753</strong>" in page
    assert "(0.644 to 0.835) of the clinical baseline" in page
    assert ">logistic regression</text>" in page
    assert "has no clinical baseline" not in page


def test_a_control_is_not_taken_for_a_result(tmp_path):
    path = small(tmp_path / "run", **{"data.shuffle_bag_labels": True})
    assert "This is a control" in read(write_report(path, tmp_path / "page.html"))


def test_a_page_of_many_repeats_and_pictures_stays_below_its_limit(cohort, tmp_path, monkeypatch):
    path = make_run_of(cohort, tmp_path / "run", repeats=20)
    written = write_report(path, tmp_path / "page.html")
    full = written.stat().st_size
    assert full < LIMIT / 2  # the pictures are few; every fold's curves in every panel were more
    assert "Of 40 folds the first 2" in " ".join(read(written).split())
    monkeypatch.setattr(page_module, "LIMIT", full - 1)  # less room: smaller pictures
    smaller = write_report(path, tmp_path / "smaller.html")
    assert smaller.stat().st_size < full
    assert "<img" in smaller.read_text()


def test_repeats_are_told(tmp_path):
    page = read(write_report(small(tmp_path / "run", **{"data.repeats": 2}), tmp_path / "page"))
    assert "in each of 2 repeats" in page
    assert "20 tumoral, 10 reactive" in page


def test_the_inner_split_names_the_epoch_that_counts(tmp_path):
    path = small(tmp_path / "run", **{"data.inner_val_fraction": 0.2})
    assert "epoch chosen on inner split" in read(write_report(path, tmp_path / "page.html"))
