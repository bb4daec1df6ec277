from functools import partial

import pytest

from lymphoml.data.synthetic import synthesize
from tests.promises.jobs import configuration


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("promises") / "cohort"
    synthesize(folder, patients=16, test_patients=3, images=(2, 5), size=32, seed=0)
    return folder


@pytest.fixture
def configured(cohort, tmp_path):
    return partial(configuration, cohort, tmp_path / "cache")
