"""The whole pipeline against a known truth: a planted accuracy.

Cohorts have one clinical value x and no image that is looked at, so that a fold trains in a second.
"""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from lymphoml.cli.config import compose_config
from lymphoml.runs.cross_validation import cross_validate
from lymphoml.training.checkpoint import load_checkpoint

COLUMNS = {"x": {"kind": "numeric", "column": "X"}}


@pytest.fixture(autouse=True)
def no_baselines(monkeypatch):
    """They cost more than such a training, and have no part in what is tested here."""
    nothing = lambda data, cohort, folds, features, seed: folds[["patient", "fold"]]  # noqa: E731
    monkeypatch.setattr("lymphoml.runs.aggregate.baseline_predictions", nothing)


class Pipeline:
    """Cross-validates one table after another in the same folder of patients."""

    def __init__(self, folder, patients, *words):
        self.root, self.patients, self.runs = folder / "cohort", patients, folder / "runs"
        for i in range(patients):
            (self.root / f"P{i}").mkdir(parents=True)
            (self.root / f"P{i}" / "0.png").touch()  # found, never opened
        words = ["data=table", "model/fusion=clinical", "logger=none", "trainer.num_threads=1",
                 "trainer.enable_progress_bar=false", f"data.root={self.root}",
                 "data.image_dir=.", *words]  # fmt: skip
        columns = {"data.columns": COLUMNS, "data.clinical": ["x"], "data.hard_stratum": None}
        self.config = compose_config(*words).replace(columns)

    def run(self, name, labels, x, **changes):
        ids = [f"P{i}" for i in range(self.patients)]
        table = pd.DataFrame({"ID": ids, "LABEL": labels, "X": np.round(x, 9)})
        table.to_csv(self.root / "clinical.csv", index=False)
        folder = self.runs / name
        cross_validate(self.config.replace(changes), folder)
        return folder, json.loads((folder / "metrics.json").read_text())


def true_accuracy(folder, distance):
    """Mean over folds of what each fold's model would get right of endless patients.

    x is normal around `distance` in tumoral and around 0 in reactive patients, of unit variance.
    """
    scores = []
    for path in folder.glob("fold-*/last.ckpt"):
        checkpoint = load_checkpoint(path)
        scaling = checkpoint["BagDataModule"]["clinical"]
        weight, bias = (value.double().item() for value in checkpoint["state_dict"].values())
        assert weight > 0
        cut = scaling["mean"][0] - bias / weight * scaling["scale"][0]
        scores.append((norm.sf(cut - distance) + norm.cdf(cut)) / 2)
    return np.mean(scores)


@pytest.mark.slow
def test_a_planted_accuracy_is_found_without_bias_and_the_best_epoch_is_optimistic(tmp_path):
    """Training at so high a rate that epochs differ, as they do on the real cohort."""
    n, distance, random = 165, 2 * norm.isf(0.15), np.random.default_rng(0)
    pipeline = Pipeline(tmp_path, n, "data.folds=5", "trainer.max_epochs=5", "optim=adam",
                        "lr=0.3", "data.batch_size=33", "scheduler=none")  # fmt: skip
    labels = np.arange(n) % 2
    errors, gaps, truths = [], [], []
    for repetition in range(20):
        folder, metrics = pipeline.run(
            str(repetition), labels, random.normal(distance * labels), seed=repetition
        )
        truths.append(true_accuracy(folder, distance))
        errors.append(metrics["balanced_accuracy"]["value"] - truths[-1])
        gaps.append(metrics["best_epoch_balanced_accuracy"]["mean"] - truths[-1])
    assert np.mean(truths) == pytest.approx(0.85, abs=0.01)
    assert np.mean(errors) == pytest.approx(0, abs=0.01)
    assert np.mean(gaps) > 0.02


def test_held_out_values_reach_nothing_that_training_writes(tmp_path):
    n, random = 60, np.random.default_rng(0)
    pipeline = Pipeline(tmp_path, n, "fold=0", "trainer.max_epochs=2", "data.folds=3")
    labels, x = np.arange(n) % 2, random.normal(size=n)
    honest, leaky = pipeline.runs / "honest", pipeline.runs / "leaky"
    with pytest.raises(FileNotFoundError):  # one fold of three leaves no metrics.json
        pipeline.run("honest", labels, x)
    held_out = pd.read_csv(honest / "fold-0" / "predictions.csv")["patient"]
    rows = held_out.str[1:].astype(int)
    x[rows] = 1000.0 * rows  # identifies each patient
    with pytest.raises(FileNotFoundError):
        pipeline.run("leaky", labels, x)
    assert (honest / "folds.csv").read_bytes() == (leaky / "folds.csv").read_bytes()
    first, second = (load_checkpoint(run / "fold-0" / "last.ckpt") for run in (honest, leaky))
    assert first["BagDataModule"] == second["BagDataModule"]
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
    losses = [
        pd.read_csv(run / "fold-0" / "history.csv")[["train/loss", "lr"]] for run in (honest, leaky)
    ]
    pd.testing.assert_frame_equal(*losses)
    predictions = [(run / "fold-0" / "predictions.csv").read_bytes() for run in (honest, leaky)]
    assert predictions[0] != predictions[1]
