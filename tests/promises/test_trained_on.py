"""What a model was learned from: nothing is joined that does not belong together."""

import os
import shutil
import subprocess

import pytest

from lymphoml.runs import provenance
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, configuration, files, refused

QUICK = [*CLINICAL, "trainer.max_epochs=1"]


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """A finished run of two folds."""
    folder = tmp_path_factory.mktemp("trained")
    cross_validate(configuration(cohort, folder / "cache", *QUICK), folder / "run")
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "run")
    return tmp_path / "run"


def test_only_cohort_and_machine_may_differ(run, cohort, capsys):
    """predict.py with another value of what decides how a model reads a patient → refused in a line
    with what may differ, exit code 2, nothing written"""
    before = files(run)
    for word in ("data.normalize_images=true", "data.eval_bag_size=2", "data.features.seed=1",
                 "data.clinical=[age]", "data={resize: 16}", "data.features={blocks: []}",
                 "trainer.max_epochs=2"):  # fmt: skip
        line = refused(capsys, "predict", f"run={run}", f"data.root={cohort}", word)
        assert "comes from the run" in line, word
        assert "data.root, data.table" in line
    assert files(run) == before


def test_the_commit_is_lymphomls_own(tmp_path, monkeypatch):
    """the project unpacked inside another repository, or git's variables of another one → no
    commit is recorded, instead of that repository's"""
    package = tmp_path / "thesis" / "lymphoml-main" / "lymphoml"
    package.mkdir(parents=True)
    commit = ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "--allow-empty", "-qm", "x"]
    for place, found in ((package.parents[1], False), (package.parent, True)):
        for words in (["init", "-q"], commit):
            subprocess.run(["git", "-C", place, *words], check=True)
        monkeypatch.setattr(provenance, "PACKAGE", package)
        assert bool(provenance.git_commit()) is found
    own = provenance.git_commit()
    monkeypatch.setenv("GIT_DIR", os.fspath(tmp_path / "thesis" / ".git"))
    assert provenance.git_commit() == own
