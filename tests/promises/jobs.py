"""A tiny cohort and its job, as the promises of this folder try them."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from lymphoml.cli.config import validate
from lymphoml.cli.entry import run_cli
from lymphoml.cli.main import main
from lymphoml.runs.cross_validation import cross_validate

ROOT = Path(__file__).parents[2]
TINY = ["data=synthetic", "logger=none", "data.folds=2", "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false", "trainer.num_threads=1", "model/encoder=timm",
        "model.encoder.name=test_resnet", "data.image_baselines=[]"]  # fmt: skip
CLINICAL = ["model/fusion=clinical", "data.batch_size=8"]
OUTCOME = ["predictions.csv", "metrics.json", "folds.csv", "baselines.csv", "strata.csv"]


def configuration(cohort: Path, cache: Path, *words: str) -> dict:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = compose(
            "train", overrides=[*TINY, f"data.root={cohort}", f"data.cache={cache}", *words]
        )
    return validate(composed)


def predict(config: dict, run: Path) -> None:
    """As the user does: a run folder does not tell where the cohort and the cache lie."""
    places = [f"data.{key}={config['data'][key]}" for key in ("root", "cache")]
    main(["predict", f"run={run}", *places])


def outcome(run: Path) -> dict[str, bytes]:
    """All that a finished run says, times aside."""
    found = {name: (run / name).read_bytes() for name in OUTCOME}
    for fold in sorted(run.glob("fold-*")):
        for name in ("predictions.csv", "instances.csv"):
            found[f"{fold.name}/{name}"] = (fold / name).read_bytes()
        history = pd.read_csv(fold / "history.csv").drop(columns="images_per_second")
        found[f"{fold.name}/history.csv"] = history.to_csv().encode()
        done = json.loads((fold / "done.json").read_text())
        found[f"{fold.name}/done.json"] = json.dumps(done | {"seconds": 0}).encode()
    return found


def refusal(capsys: pytest.CaptureFixture, config: dict, run: Path) -> tuple[int, list[str]]:
    """How the job ends when it does not end well: exit code, and the lines that tell why."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        run_cli(lambda: cross_validate(config, run))
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("error: ") for line in lines), lines
    return int(left.value.code or 0), lines
