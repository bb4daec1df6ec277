import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from lymphoml.errors import InputError
from lymphoml.evaluation.intervals import wilson
from lymphoml.report.content import page_content, verdict
from lymphoml.report.figures import histogram_figure, inline_svg, learning_figure, roc_figure
from lymphoml.report.page import write_report
from lymphoml.report.runs import read_run
from tests.report.fabricate import config, make_run


def small(path, **changes):
    """A run of two folds: a page draws a panel for each."""
    return make_run(path, config(**{"data.folds": 2, **changes}), n=30, epochs=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "lr=1e-3", n=60, epochs=6)


@pytest.fixture(scope="module")
def page(run):
    return write_report(run, run.parent / "page.html").read_text()


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


def test_the_page_needs_nothing_from_elsewhere(page):
    assert "http" not in page
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "<script" not in page
    assert "xlink" not in page  # a namespace that HTML does not need


def test_the_page_is_well_formed_and_its_ids_are_unique(page):
    parser = Balance()
    parser.feed(page)
    assert parser.wrong == []
    assert parser.open == []
    assert {"h1", "table", "figcaption", "svg"} <= parser.tags
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', page)) <= set(ids)
    assert page.count('role="img" aria-label="') == page.count("<svg") == 5


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


def test_no_patient_is_named(run, page):
    assert "Zebra" in (run / "predictions.csv").read_text()
    assert "Zebra" not in page


def test_two_pages_of_one_run_are_the_same_bytes(tmp_path):
    path = small(tmp_path / "run")
    first, second = (write_report(path, tmp_path / name) for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_what_a_configuration_says_is_never_markup(tmp_path):
    attack = '"><script>alert(1)</script>'
    places = {"name": attack, "tags": [attack], "data.crop": attack, "data.name": attack}
    path = small(tmp_path / "a<b>", **places)
    environment = {"command": attack, "versions": {attack: attack}, "hardware": attack}
    (path / "environment.json").write_text(json.dumps(environment))
    page = write_report(path, tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "<b>alert" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_paths_of_the_machine_stay_there(tmp_path):
    places = {"data.root": "/home/someone/cohort", "data.fold_file": "/home/someone/mine.csv"}
    path = small(tmp_path / "run", **places)
    shown = page_content(read_run(path))["settings"]["data"]
    assert "root" not in shown
    assert shown["fold_file"] == ".../mine.csv"


@pytest.mark.parametrize("environment", [None, {}, {"versions": {}, "git_commit": None}])
def test_a_run_that_tells_little_of_its_environment(tmp_path, environment):
    path = small(tmp_path / "run")
    (path / "environment.json").unlink()
    if environment is not None:
        (path / "environment.json").write_text(json.dumps(environment))
    content = page_content(read_run(path))
    assert content["command"] is None
    assert set(content["made_with"].values()) == {"not told"}
    assert content["versions"] == {"packages": "not told"}


def test_a_run_without_environment_still_has_a_page(tmp_path):
    path = small(tmp_path / "run")
    (path / "environment.json").unlink()
    page = write_report(path, tmp_path / "page.html").read_text()
    assert "does not tell the command" in page


def test_the_clinical_baseline_stands_beside_the_score(tmp_path):
    path = small(tmp_path / "run")
    metrics = json.loads((path / "metrics.json").read_text())
    clinical = {"balanced_accuracy": {"value": 0.7531, "low": 0.6442, "high": 0.8353}}
    metrics["baseline"]["clinical"] = clinical
    (path / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(path, tmp_path / "page.html").read_text()
    assert "<strong>0.753</strong>" in page
    assert "(0.644 to 0.835) of the clinical baseline" in page
    assert ">clinical baseline</text>" in page
    assert "has no clinical baseline" not in page


def test_an_unfinished_run_has_no_page(tmp_path):
    path = small(tmp_path / "run")
    (path / "fold-1" / "done.json").unlink()
    with pytest.raises(InputError, match="fold 1 has no done") as caught:
        write_report(path, tmp_path / "page.html")
    assert len(caught.value.problems) == 1
    assert not (tmp_path / "page.html").exists()


def test_repeats_count_each_patient_once_in_the_scores(tmp_path):
    path = small(tmp_path / "run", **{"data.repeats": 2})
    run = read_run(path)
    content = page_content(run)
    assert content["n"] == {"patients": 30, "tumoral": 20, "reactive": 10}
    pooled = (content["sensitivity"]["value"] + content["specificity"]["value"]) / 2
    assert pooled == pytest.approx(run.metrics["balanced_accuracy"]["value"])
    assert [row["total"] for row in content["confusion"]] == [40, 20]
    found = content["sensitivity"]["value"] * 20  # of 20 patients, not of 40 rows
    assert content["sensitivity"]["low"] == pytest.approx(wilson(found, 20).low)
    assert "in each of 2 repeats" in write_report(path, tmp_path / "page.html").read_text()


def test_the_inner_split_names_the_epoch_that_counts(tmp_path):
    path = small(tmp_path / "run", **{"data.inner_fraction": 0.2})
    assert page_content(read_run(path))["reported_epoch"] == "epoch chosen on inner split"


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.51, 0.9, "better than chance"),
        (0.5, 0.9, "not told apart from chance"),
        (0.1, 0.49, "worse than chance"),
    ],
)
def test_the_verdict_is_the_intervals(low, high, said):
    assert verdict({"value": (low + high) / 2, "low": low, "high": high}) == said


def test_confusion_counts_by_hand(tmp_path):
    table = pd.DataFrame(
        {
            "patient": list("abcdefgh"),
            "fold": [0, 0, 0, 0, 1, 1, 1, 1],
            "label": [1, 1, 0, 0, 1, 1, 0, 0],
            "probability": [0.9, 0.5, 0.2, 0.7, 0.8, 0.6, 0.1, 0.1],  # 0.5 is not above 0.5
        }
    )
    path = make_run(tmp_path / "run", config(**{"data.folds": 2}), epochs=2, predictions=table)
    tumoral, reactive = page_content(read_run(path))["confusion"]
    assert [cell["count"] for cell in tumoral["cells"]] == [3, 1]
    assert [cell["count"] for cell in reactive["cells"]] == [1, 3]


def test_the_learning_figure_draws_each_fold(run):
    histories = read_run(run).histories
    panels = learning_figure(histories, {"val/balanced_accuracy": "-"}, best=True).axes
    assert len(panels) == 5
    for axes, history in zip(panels, histories.values(), strict=True):
        curves = [list(line.get_ydata()) for line in axes.lines]
        assert list(history["val/balanced_accuracy"]) == curves[5]  # after the five grey ones
        assert [history["val/balanced_accuracy"].iloc[-1]] in curves
        assert [history["val/balanced_accuracy"].max()] in curves


def test_the_learning_figure_of_a_run_validated_now_and_then_or_never():
    scores = pd.Series([np.nan, 0.6, np.nan, 0.5])
    histories = {
        0: pd.DataFrame({"epoch": range(4), "val/loss": scores}),
        1: pd.DataFrame({"epoch": range(4), "val/loss": np.nan}),
    }
    now_and_then, never = learning_figure(histories, {"val/loss": "-"}, best=True).axes
    curves = [(list(line.get_xdata()), list(line.get_ydata())) for line in now_and_then.lines]
    assert curves[2] == ([2, 4], [0.6, 0.5])
    assert curves[-2:] == [([4], [0.5]), ([2], [0.6])]
    assert len(never.lines) > 0


def test_the_roc_passes_through_its_working_point(run):
    [axes] = roc_figure([read_run(run).predictions]).axes
    _, curve, point = axes.lines
    corners = set(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
    assert {(0, 0), (1, 1)} <= corners
    x, y = point.get_xdata()[0], point.get_ydata()[0]
    assert y == pytest.approx(np.interp(x, curve.get_xdata(), curve.get_ydata()), abs=0.06)


def test_the_histogram_counts_every_patient_once(run):
    [axes] = histogram_figure(read_run(run).predictions).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert sum(height for height in heights if height > 0) == 40
    assert sum(height for height in heights if height < 0) == -20


def test_an_inline_figure_takes_the_pages_colours_and_words(run):
    svg = inline_svg(roc_figure([read_run(run).predictions]), "roc", 'a "quoted" figure')
    assert svg.startswith('<svg viewBox="')
    assert svg.rstrip().endswith("</svg>")
    assert "var(--ink)" in svg
    assert not re.search(r"#0[1-5]0", svg)
    assert "&quot;quoted&quot;" in svg
    assert "sensitivity" in svg
