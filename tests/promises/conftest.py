import pytest

from tests.promises.journey import USER, Journey, travel

PATIENTS = 25


@pytest.fixture(scope="session")
def journey(tmp_path_factory) -> Journey:
    """Of 25 patients, 5 of them without a label."""
    return travel(tmp_path_factory.mktemp("journey") / "home" / USER, PATIENTS)
