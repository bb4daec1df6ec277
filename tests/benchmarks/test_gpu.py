"""The GPU script: what it counts and extrapolates, a step that fails, and a tiny run on the CPU."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from benchmarks.gpu.__main__ import ROOT, Steps
from benchmarks.gpu.results import figure_3, note_epochs, rates


def test_images_are_counted_by_the_clock_while_all_folds_run(tmp_path):
    """Epochs of 5 and 3 images, 2 s each, of which one fold's begin 1 s later."""
    for patient, images in (("P1", 3), ("P2", 5)):
        for number in range(images):
            (tmp_path / "trainset" / patient / str(number)).mkdir(parents=True)
    ends, run = {}, tmp_path / "run"
    for moment in range(10, 18):
        (run / f"fold-{moment % 2}").mkdir(parents=True, exist_ok=True)
        speeds = [1.0, *[30.0 - 20 * (moment % 2)] * 3][: (moment - 8) // 2]
        history = pd.DataFrame({"images_per_second": speeds})
        history.to_csv(run / f"fold-{moment % 2}" / "history.csv", index=False)
        note_epochs(run, ends, float(moment))
    pd.DataFrame({"patient": ["P1", "P2"], "fold": [0, 1]}).to_csv(run / "folds.csv", index=False)
    found = rates(tmp_path, ends, started=4.0)
    assert found == {"folds": 2, "training": 40, "sustained": 4, "start_seconds": 5}
    figure = figure_3([found])
    assert figure["training_images"] == 8 * 5 * 20 * 13_453 * 4 // 5 == 8_609_920
    assert figure["validation_images"] == figure["training_images"] // 4
    assert found["figure_3_minutes"] == pytest.approx((8_609_920 / 4 + 8 * 5 / 2) / 60)
    ends[run / "fold-1" / "history.csv"] = [15.9, 18.0, 20.0]
    with pytest.raises(ValueError, match="less than a third: set more --epochs"):
        rates(tmp_path, ends, started=4.0)


def test_a_step_that_fails_or_runs_over_is_noted(tmp_path):
    steps = Steps(tmp_path, limit=60)
    assert steps.run("fails", ["-c", "print(1); raise SystemExit('no card\\n')"]) is None
    steps.each = 0.1
    assert steps.run("hangs", ["-c", "import time; time.sleep(99)"]) is None
    assert steps.failed == {"fails": "exit code 1: no card", "hangs": "ran over 0 s: "}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_script_runs_on_the_cpu(tmp_path):
    words = ["--size=32", "--patients=15", "--bags", "2", "8", "--folds=2", "--workers=0",
             "--limit=800", "trainer.num_threads=1"]  # fmt: skip
    environment = os.environ | {"PYTHON": sys.executable}
    script = [ROOT / "benchmarks" / "gpu.sh", *words]
    done = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True)
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert done.returncode == bool(results["failed"]), done.stdout + done.stderr
    assert {*results["failed"]} <= {"parity"}  # bfloat16 rounds images of 32 px more than of 224
    assert [each["folds"] for each in results["training"]] == [1, 1, 2] * 2
    assert all(each["sustained"] > 0 for each in results["training"])
    exact, rounded = results["parity"].values()
    assert exact["features"] == 0  # the CPU against itself
    assert 0 < rounded["features"] < 0.1
    assert f"images on the device | bf16-mixed | {results['training'][4]['training']:,.0f}" in (
        done.stdout
    )
