"""Run folders as `train.py` leaves them, without a training."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from lymphoml.evaluation.metrics import score_fold
from lymphoml.evaluation.summary import summarise

CONFIG: dict[str, Any] = {
    "seed": 0,
    "fold": "all",
    "lr": 1e-3,
    "name": "default",
    "tags": [],
    "data": {"name": "synthetic", "root": "data/synthetic", "folds": 5, "repeats": 1, "crop": 112,
             "folds_csv": None, "inner_val_fraction": 0.0, "clinical": ["age", "lymphocyte_count"]},
    "model": {
        "_target_": "lymphoml.models.mil.MILModel",
        "encoder": {"_target_": "lymphoml.models.encoders.ResNet", "weights": None},
        "pooling": {"_target_": "lymphoml.models.pooling.MeanPooling"},
        "fusion": {"_target_": "lymphoml.models.fusion.ConcatFusion", "hidden": 64},
    },
    "optim": {"_target_": "torch.optim.SGD", "lr": 1e-3, "momentum": 0.9},
    "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.95},
    "trainer": {"max_epochs": 20},
    "logger": {"mode": "offline", "group": "lr=1e-3"},
}  # fmt: skip

ENVIRONMENT = {
    "versions": {"torch": "2.15.0", "pytorch-lightning": "2.6.6"},
    "git_commit": "0123456789abcdef",
    "data_fingerprint": "f00dfeed",
    "command": "python train.py experiment=default data=synthetic",
    "hardware": "cpu, 2 threads",
    "settings": "bf16, channels_last",
}


def config(**changes: Any) -> dict[str, Any]:
    """CONFIG with dotted keys changed: `config(**{"optim._target_": "torch.optim.Adam"})`."""
    changed = deepcopy(CONFIG)
    for key, value in changes.items():
        *groups, name = key.split(".")
        place = changed
        for group in groups:
            place = place[group]
        place[name] = value
    return changed


def make_predictions(n: int, folds: int, repeats: int, skill: float, seed: int) -> pd.DataFrame:
    """Two tumoral patients to each reactive one; `skill` shifts the classes' logits apart."""
    random = np.random.default_rng(seed)
    parts = []
    for repeat in range(repeats):
        label = (np.arange(n) % 3 > 0).astype(int)
        logit = random.normal(0.4 + skill * (label - 0.5), 1.0)
        parts.append(
            pd.DataFrame(
                {
                    "patient": [f"Zebra{i}" for i in range(n)],
                    "fold": repeat * folds + random.permutation(n) % folds,
                    "label": label,
                    "probability": 1 / (1 + np.exp(-logit)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def make_history(epochs: int, skill: float, seed: int, last: float) -> pd.DataFrame:
    """Curves that rise towards `last`, the balanced accuracy of the last epoch."""
    random = np.random.default_rng(seed)
    epoch = np.arange(epochs)
    learnt = 1 - np.exp(-(epoch + 1) / 5)
    score = 0.5 + (last - 0.5) * learnt / learnt[-1] + random.normal(0, 0.03, epochs)
    score[-1] = last
    return pd.DataFrame(
        {
            "epoch": epoch,
            "lr": 1e-3 * 0.95**epoch,
            "train/loss": 0.68 - 0.15 * skill * learnt + random.normal(0, 0.01, epochs),
            "val/loss": 0.68 - 0.11 * skill * learnt + random.normal(0, 0.03, epochs),
            "val/balanced_accuracy": score.clip(0, 1),
            "images_per_second": random.normal(60, 2, epochs),
        }
    )


def _score(predictions: pd.DataFrame, fold: int) -> float:
    rows = predictions[predictions["fold"] == fold]
    return score_fold(rows["label"], rows["probability"])["balanced_accuracy"]


def make_run(
    path: Path,
    config: dict[str, Any] = CONFIG,
    n: int = 90,
    epochs: int = 20,
    skill: float = 3.0,
    seed: int = 0,
    predictions: pd.DataFrame | None = None,
    histories: dict[int, pd.DataFrame] | None = None,
    baselines: pd.DataFrame | None = None,
) -> Path:
    """A finished run folder at `path`; `baselines` are patient, fold and a column each."""
    folds, repeats = config["data"]["folds"], config["data"]["repeats"]
    if predictions is None:
        predictions = make_predictions(n, folds, repeats, skill, seed)
    if histories is None:
        histories = {
            fold: make_history(epochs, skill, seed * 100 + fold, last=_score(predictions, fold))
            for fold in range(folds * repeats)
        }
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (path / "environment.json").write_text(json.dumps(ENVIRONMENT))
    predictions[["patient", "fold"]].to_csv(path / "folds.csv", index=False)
    for fold, history in histories.items():
        folder = path / f"fold-{fold}"
        folder.mkdir()
        history.to_csv(folder / "history.csv", index=False)
        predictions[predictions["fold"] == fold].to_csv(folder / "predictions.csv", index=False)
        (folder / "done.json").write_text(json.dumps({"fold": fold, "seconds": 12.5}))
    predictions.to_csv(path / "predictions.csv", index=False)
    if baselines is not None:
        baselines.to_csv(path / "baselines.csv", index=False)
    metrics = summarise(predictions, histories, folds, baselines=baselines)
    (path / "metrics.json").write_text(json.dumps(metrics))
    return path
