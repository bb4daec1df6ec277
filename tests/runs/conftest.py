from functools import partial

import pytest

from tests.promises.jobs import configuration


@pytest.fixture(scope="session", autouse=True)
def quick_baselines(few_trees):
    pass


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def configured(cohort, cache):
    """Composes the configuration of a tiny network on the cohort, or of other overrides."""
    return partial(configuration, cohort, cache)
