"""Tiny cohorts of cells, and pretraining of seconds on them."""

import pytest

from lymphoml.cli.main import main
from lymphoml.data.synthetic.cohort import synthesize

TINY = ["encoder=resnet10_quarter", "pretrain.crop=null", "pretrain.resize=null",
        "pretrain.batch_size=16", "pretrain.encoder.width=4", "trainer.num_threads=1"]  # fmt: skip


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining") / "cohort"
    synthesize(folder, patients=16, test_patients=3, images=(5, 8), size=32, seed=0)
    return folder


@pytest.fixture
def pretrain(cohort, tmp_path):
    """The bytes of the encoder that a command's words make, each time of an empty cache."""

    def make(*words, cache="cache", root=cohort):
        out = tmp_path / cache / "encoder.safetensors"
        main(["pretrain", "cohort=synthetic", f"data.root={root}", f"data.cache={tmp_path / cache}",
              f"out={out}", *TINY, *words])  # fmt: skip
        return out.read_bytes()

    return make
