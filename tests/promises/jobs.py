"""A job on the tiny cohort, as the promises of this folder try it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from lymphoml.cli.config import compose_config
from lymphoml.cli.entry import run_cli
from lymphoml.cli.main import main
from lymphoml.runs.cross_validation import cross_validate
from tests.promises.processes import ROOT

if TYPE_CHECKING:
    from lymphoml.runs.settings import TrainConfig

__all__ = ["CLINICAL", "ROOT", "configuration", "outcome", "predict", "refusal"]
TINY = ["data=synthetic", "logger=none", "data.folds=2", "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false", "trainer.num_threads=1",
        "data.image_baselines=[]"]  # fmt: skip
ENCODER = ["model/encoder=timm", "model.encoder.name=test_resnet"]
CLINICAL = ["model/fusion=clinical", "data.batch_size=8"]
OUTCOME = ["predictions.csv", "metrics.json", "folds.csv", "baselines.csv", "strata.csv"]


def configuration(cohort: Path, cache: Path, *words: str) -> "TrainConfig":
    other = any(word.startswith("model/encoder=") for word in words)
    encoder = [] if other else ENCODER
    return compose_config(*TINY, *encoder, f"data.root={cohort}", f"data.cache={cache}", *words)


def predict(config: "TrainConfig", run: Path) -> None:
    """Predict as the user does: a run folder does not contain where cohort and cache are."""
    places = [f"data.root={config.data.root}", f"data.cache={config.data.cache}"]
    main(["predict", f"run={run}", *places])


def outcome(run: Path) -> dict[str, bytes]:
    """Return all that a finished run contains but times: file name to bytes."""
    found = {name: (run / name).read_bytes() for name in OUTCOME}
    for fold in sorted(run.glob("fold-*")):
        for name in ("predictions.csv", "instances.csv"):
            found[f"{fold.name}/{name}"] = (fold / name).read_bytes()
        history = pd.read_csv(fold / "history.csv").drop(columns="images_per_second")
        found[f"{fold.name}/history.csv"] = history.to_csv().encode()
        done = json.loads((fold / "done.json").read_text())
        found[f"{fold.name}/done.json"] = json.dumps(done | {"seconds": 0}).encode()
    return found


def refusal(
    capsys: pytest.CaptureFixture, config: "TrainConfig", run: Path
) -> tuple[int, list[str]]:
    """Return how a failing job ends: exit code, and its lines of error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        run_cli(lambda: cross_validate(config, run))
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("error: ") for line in lines), lines
    return int(left.value.code or 0), lines
