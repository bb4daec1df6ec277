"""Every preset trains: an epoch of a fold on a tiny cohort, by the preset's own network."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from lymphoml.cli.config import compose_config
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.jobs import TINY

ROOT = Path(__file__).parents[2]
SWEEP = yaml.safe_load((ROOT / "sweeps" / "presets.yaml").read_text())
PRESETS = SWEEP["hydra"]["sweeper"]["params"]["experiment"].split(",")
# In tests of features, runs, benchmarks and explanations, and the promises of pretraining.
ELSEWHERE = {"best", "morphology", "default", "paper", "simclr_abmil", "trained_linear"}
SMALL = [*TINY, "fold=0", "data.crop=null", "data.resize=null", "data.train_bag_size=2",
         "trainer.max_epochs=1"]  # fmt: skip
OFFLINE = {"lcsdn": ["model.encoder.weights=null"]}  # ImageNet's are a download


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(set(PRESETS) - ELSEWHERE))
def test_a_preset_trains_and_predicts_its_held_out_patients(preset, cohort, tmp_path):
    words = [f"experiment={preset}", *SMALL, *OFFLINE.get(preset, []), f"data.root={cohort}",
             f"data.cache={tmp_path}/cache"]  # fmt: skip
    cross_validate(compose_config(*words), tmp_path / "run")
    fold = tmp_path / "run" / "fold-0"
    folds = pd.read_csv(tmp_path / "run" / "folds.csv")
    predictions = pd.read_csv(fold / "predictions.csv")
    assert set(predictions["patient"]) == set(folds.loc[folds["fold"] == 0, "patient"])
    assert predictions["probability"].between(0, 1).all()
    losses = pd.read_csv(fold / "history.csv")[["train/loss", "val/loss"]]
    assert len(losses) == 1
    assert losses.notna().all(axis=None)
