"""results.json holds what it promises, and nothing of whose machine it was; the figure is drawn."""

import getpass
import json
import os
import re
import socket
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.speed.figure import speed_figure
from benchmarks.speed.jobs import VARIANTS, Answer
from benchmarks.speed.measuring import Measurement
from benchmarks.speed.results import collect
from benchmarks.speed.terminal import duration, show
from lymphoml.core.files import write_json
from lymphoml.reports.ablation.figure import write_png

COMMITTED = Path(__file__).parents[3] / "benchmarks" / "results.json"
RUN = {"round", "variant", "size", "bag", "patients", "workers", "training_images_per_second",
       "inference_images_per_second", "step_seconds", "first_step_seconds", "process_seconds",
       "others_cores", "peak_mib", "cuda_peak_mib", "obstacle"}  # fmt: skip
POINT = {"images_per_second", "peak_mib", "first_step_seconds", "obstacle"}


@pytest.fixture
def results(profile, job, compared, swept):
    return collect("quick", profile, job, 6144.0, compared, swept)


def check(results):
    assert set(results) == {"profile", "machine", "versions", "git_commit", "settings", "variants",
                            "comparison", "paper", "sweeps", "sweep_runs"}  # fmt: skip
    assert set(results["machine"]) == {"hardware", "cores", "memory_gib", "system"}
    assert {"threads", "precision", "rounds", "timed_epochs_a_round"} <= set(results["settings"])
    assert {"torch", "numpy", "python"} <= set(results["versions"])
    assert set(results["paper"]["hours"]) == set(VARIANTS)
    comparison = results["comparison"]
    rounds = results["settings"]["rounds"]
    assert len(comparison["runs"]) == rounds * len(VARIANTS)
    order = [(run["round"], run["variant"]) for run in comparison["runs"]]
    assert order == [(number, variant) for number in range(rounds) for variant in VARIANTS]
    for run in [*comparison["runs"], *results["sweep_runs"]]:
        assert set(run) == RUN
        assert run["obstacle"] or run["training_images_per_second"] or run["step_seconds"]
    assert set(comparison["ratios"]) == {"training", "inference"}
    for points in results["sweeps"].values():
        for point in points:
            assert all(set(point[variant]) == POINT for variant in VARIANTS)


def tells_of_the_machine(text):
    names = {socket.gethostname(), getpass.getuser(), os.getcwd(), str(Path.home())} - {"/"}
    found = [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]
    return found + re.findall(r'"[^"]*(?:/tmp/|/home/|/root|/work|~/)[^"]*"', text)


def test_schema_and_json(results, tmp_path):
    check(results)
    write_json(tmp_path / "results.json", results)  # no nan, nothing that JSON does not know
    check(json.loads((tmp_path / "results.json").read_text()))


def test_no_host_user_or_path(profile, job, compared, swept):
    job = replace(job, words=["data.cache=/home/someone/cache", "lr=1e-3"])
    results = collect("quick", profile, job, 6144.0, compared, swept)
    assert results["settings"]["command"].endswith("data.cache=cache lr=1e-3")
    text = json.dumps(results)
    assert job.cohort not in text
    assert not tells_of_the_machine(text)
    assert tells_of_the_machine(json.dumps({"command": "/home/someone/x"}))
    assert tells_of_the_machine(json.dumps({"command": f"on {socket.gethostname()}"}))


@pytest.mark.skipif(not COMMITTED.exists(), reason="no results are kept yet")
def test_the_results_that_are_kept():
    check(json.loads(COMMITTED.read_text()))
    assert not tells_of_the_machine(COMMITTED.read_text())
    assert (COMMITTED.parent / "speed.png").stat().st_size > 10_000


def test_the_figure_says_what_does_not_fit(results, tmp_path):
    figure = speed_figure(results)
    words = " ".join(text.get_text() for axes in figure.axes for text in axes.texts)
    assert "does not fit: (a) at 256, (b) at 256" in words
    write_png(figure, tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_a_variant_that_does_not_fit_leaves_the_others(profile, job, compared, swept, tmp_path):
    lost = Measurement(Answer(), obstacle="does not fit: stopped when it held more than 6144 MiB")
    runs = [r._replace(measured=lost) if r.variant == "reference" else r for r in compared]
    results = collect("quick", profile, job, 6144.0, runs, swept)
    check(results)
    assert results["paper"]["hours"]["reference"] is None
    assert results["comparison"]["ratios"]["training"]["lymphoml/reference"] is None
    write_png(speed_figure(results), tmp_path / "speed.png")
    show(results, Console(file=StringIO()))


def test_the_terminal_tells_ratios_and_disturbance(results):
    out = StringIO()
    show(results, Console(file=out, width=120))
    assert "4.00 (4.00 to 4.00)" in out.getvalue()
    assert "does not fit" in out.getvalue()
    assert "not alone" not in out.getvalue()
    results["settings"]["others_cores"] = {"median": 0.1, "highest": 10_000.0}
    show(results, Console(file=out, width=120))
    assert "not alone" in out.getvalue()


def test_durations_read_well():
    assert [duration(hours) for hours in (0.5, 3, 60, None)] == ["30 min", "3.0 h", "2.5 days", "-"]
