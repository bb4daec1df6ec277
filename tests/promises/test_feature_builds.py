"""Features of single images, built for minutes by several processes."""

import os
import signal

import pytest

from lymphoml.cli.main import main
from lymphoml.data.synthetic.cohort import synthesize
from tests.promises.processes import alive, end, start, wait_until

MEASURE = """
import sys
from lymphoml.cli.main import main
from lymphoml.core.signals import install_signal_handlers
from lymphoml.features import feature_cache
feature_cache.FEW, feature_cache.available_cores = 1, lambda: 2
if __name__ == "__main__":
    install_signal_handlers("again")
    main(["features", "cohort=synthetic", *sys.argv[1:]])
"""
CODES = {"TERM": 143, "INT": 130, "KILL": -9}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cohort, and its features by a build that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    synthesize(folder / "cohort", patients=15, test_patients=1, images=(8, 8), size=64, seed=0)
    main(["features", "cohort=synthetic", f"data.root={folder}/cohort",
          f"data.cache={folder}/cache", f"out={folder}/features.npz"])  # fmt: skip
    return folder


@pytest.mark.promise(
    "SIGTERM, SIGINT or `kill -9` while several processes compute features",
    "all end; finished patients are kept, and the same command resumes to the same bytes",
)
@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[pytest.mark.slow] * (how == "INT")) for how in CODES]
)
def test_no_measuring_process_is_left(how, whole, tmp_path):
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    words = [str(script), "out=features.npz", f"data.root={whole}/cohort"]
    process = start(*words, cwd=tmp_path)
    try:
        wait_until(lambda: len(list(tmp_path.glob(".cache/features/*/*.npy"))) > 2)
        os.kill(process.pid, getattr(signal, f"SIG{how}"))
        assert process.wait(10) == CODES[how]
        wait_until(lambda: not alive(process.pid), 5)
    finally:
        end(process)
    kept = {part: part.stat().st_mtime_ns for part in tmp_path.glob(".cache/features/*/*.npy")}
    assert 2 < len(kept) < 16
    again = start(*words, cwd=tmp_path)
    assert again.communicate()[1] == ""
    assert all(part.stat().st_mtime_ns == when for part, when in kept.items())
    assert (tmp_path / "features.npz").read_bytes() == (whole / "features.npz").read_bytes()
