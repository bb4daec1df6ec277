import pytest

from lymphoml.data.synthetic.cohort import synthesize


@pytest.fixture(scope="package")
def cohort(tmp_path_factory):
    """A synthetic cohort whose images are of two sides."""
    out = tmp_path_factory.mktemp("cohorts") / "cohort"
    synthesize(out, patients=15, test_patients=1, images=(2, 8), size=32, seed=0)
    return out
