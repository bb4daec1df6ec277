"""Runs that are explained."""

from functools import partial

import pytest

from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import configuration

VECTORS = [
    "experiment=morphology",
    "model/encoder=identity",
    "model/pooling=mean_std",
    "model/fusion=stacking",
    "trainer.max_epochs=1",
]


@pytest.fixture(scope="session")
def trained(cohort, tmp_path_factory):
    """A network that looks at pixels, and a model linear in measures, of two folds each."""
    folder = tmp_path_factory.mktemp("explained")
    configured = partial(configuration, cohort, folder / "cache")
    cross_validate(
        configured("trainer.max_epochs=1", "trainer.precision=32-true"), folder / "pixels"
    )
    cross_validate(configured(*VECTORS), folder / "vectors")
    return folder
