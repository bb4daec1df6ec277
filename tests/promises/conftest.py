import os
import pickle
import shutil
from functools import partial

import pytest
from filelock import FileLock

from lymphoml.cli.main import main
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import CLINICAL, ENCODER, configuration, end, start
from tests.promises.journey import USER, Journey, travel


@pytest.fixture(scope="session", autouse=True)
def quick_baselines(few_trees):
    pass


@pytest.fixture
def configured(cohort, tmp_path):
    return partial(configuration, cohort, tmp_path / "cache")


@pytest.fixture(scope="session")
def journey(tmp_path_factory) -> Journey:
    """A whole life of a run; made once, by the first of xdist's workers that needs it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    stored = base / "journey.pickle"
    with FileLock(base / "journey.lock"):
        if not stored.exists():
            stored.write_bytes(pickle.dumps(travel(base / "journey" / "home" / USER)))
        return pickle.loads(stored.read_bytes())


@pytest.fixture(scope="session")
def two_runs(cohort, tmp_path_factory):
    """Two finished runs of the same folds, the first one with a rule and predictions."""
    folder = tmp_path_factory.mktemp("two_runs")
    for name, words in (
        ("run", []),
        ("other", ["lr=1e-2", f"data.folds_csv={folder}/run/folds.csv"]),
    ):
        config = configuration(cohort, folder / "cache", *ENCODER, "trainer.max_epochs=1", *words)
        cross_validate(config, folder / name)
    main(["triage", f"run={folder}/run", "sensitivity=0.5"])
    main(["predict", f"run={folder}/run", f"data.root={cohort}", f"data.cache={folder}/cache"])
    return folder


@pytest.fixture(scope="session")
def clinical_run(cohort, tmp_path_factory):
    """A finished run of the clinical values, of two folds and an epoch."""
    folder = tmp_path_factory.mktemp("clinical_run")
    config = configuration(cohort, folder / "cache", *CLINICAL, "trainer.max_epochs=1")
    cross_validate(config, folder / "run")
    return folder / "run"


@pytest.fixture
def run(clinical_run, tmp_path, monkeypatch):
    """A copy of that run, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(clinical_run, tmp_path / "run")


@pytest.fixture
def started():
    """Starts processes that do not outlive the test."""
    made = []

    def start_one(*words, **more):
        made.append(start(*words, **more))
        return made[-1]

    yield start_one
    for process in made:
        end(process)
