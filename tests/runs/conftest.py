import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_baselines(few_trees):
    pass
