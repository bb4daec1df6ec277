import os
from functools import partial

import pytest
from filelock import FileLock

from tests.promises.jobs import configuration
from tests.promises.journey import USER, Journey, read, travel, write
from tests.promises.processes import end, start

PATIENTS = 25


@pytest.fixture
def configured(cohort, tmp_path):
    return partial(configuration, cohort, tmp_path / "cache")


@pytest.fixture(scope="session")
def journey(tmp_path_factory) -> Journey:
    """Of 25 patients, 5 of them without a label; made once, whoever of xdist's workers is first."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home = base / "journey" / "home" / USER
    with FileLock(base / "journey.lock"):
        if not home.exists():
            write(travel(home, PATIENTS))
        return read(home)


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
