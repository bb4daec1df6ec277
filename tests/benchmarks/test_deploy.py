"""An exported model beside torch: ratios by round, and the whole at a small size."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.deploy import format_rates


def test_ratios_are_to_each_torch_round_by_round():
    lines = format_rates({"torch": [10.0, 10.0], "torch, channels last": [20.0, 40.0],
                          "int8": [50.0, 60.0]}).splitlines()  # fmt: skip
    assert lines[0].endswith("; 0.38 (0.25 to 0.50) times torch, channels last")
    assert lines[2] == (
        "int8: 55.0 images per CPU second; 5.50 (5.00 to 6.00) times torch; "
        "2.00 (1.50 to 2.50) times torch, channels last"
    )


@pytest.mark.slow
def test_every_way_is_measured(tmp_path):
    words = [sys.executable, "-m", "benchmarks.deploy", "--size=32", "--rounds=1"]
    done = subprocess.run(words, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0
    *ways, large, small = done.stdout.splitlines()[-6:]
    names = ["torch", "torch, channels last", "float32", "int8"]
    assert [line.partition(":")[0] for line in ways] == names
    assert 50 < float(small.split()[-2]) < float(large.split()[-2]) < 400  # MB
