import os
from collections.abc import Iterator
from functools import partial

import pytest
from filelock import FileLock

from tests.promises.jobs import configuration
from tests.promises.journey import USER, Journey, read, travel, write
from tests.promises.nursery import Nursery, nursery
from tests.promises.processes import end, start


@pytest.fixture(scope="session", autouse=True)
def quick_baselines(few_trees):
    pass


@pytest.fixture
def configured(cohort, tmp_path):
    return partial(configuration, cohort, tmp_path / "cache")


@pytest.fixture(scope="session")
def born() -> Iterator[Nursery]:
    """Starts `train.py` in a tenth of a second."""
    with nursery() as made:
        yield made


@pytest.fixture(scope="session")
def journey(tmp_path_factory) -> Journey:
    """A whole life of a run; made once, by the first of xdist's workers that needs it."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    home = base / "journey" / "home" / USER
    with FileLock(base / "journey.lock"):
        if not home.exists():
            write(travel(home))
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
