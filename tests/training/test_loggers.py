"""W&B and TensorBoard: what they show, and that they receive no patient, path, host or user."""

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch.utils.data import DataLoader, TensorDataset

from lymphoml.core.errors import InputError
from lymphoml.training.loggers.privacy import finite_scalars, public_config, public_slug
from lymphoml.training.loggers.tracker import Tracker, resolve_mode
from tests.wandb_files import read_runs

ROOT = Path(__file__).parents[2]
SLUG = "lr=0.1,optim=sgd"
PATIENT, HOST, USER = "PCANARY7", "canary-host", "canary-user"
METRICS = {
    "n_patients": 4,
    "folds": [{"fold": 0, "balanced_accuracy": 0.75}, {"fold": 1, "balanced_accuracy": 0.5}],
    "balanced_accuracy": {"value": 0.625, "low": 0.4, "high": 0.8},
    "best_epoch_balanced_accuracy": {"mean": 0.7, "std": None},
}
PREDICTIONS = pd.DataFrame({"patient": [PATIENT, "P2", "P3", "P4"], "fold": 0,
                            "label": [0, 0, 1, 1],
                            "probability": [0.1, 0.6, 0.5, 0.9]})  # fmt: skip
LOGGER = {"wandb": True, "tensorboard": True, "mode": "auto", "project": "lymphoml", "entity": None}


def configuration(home: Path = Path("/home/someone"), **logger) -> SimpleNamespace:
    values = {
        "name": "cv", "tags": ["blood"], "lr": 0.1,
        "optim": {"_target_": "torch.optim.SGD", "lr": 0.1},
        "scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.95},
        "model": {"encoder": {"weights": str(home / "weights.pt"), "norm": "batch"}},
        "data": {"root": str(home / "cohort"), "folds": 2, "date_formats": {"/": "%m/%d/%Y"}},
    }  # fmt: skip
    section = SimpleNamespace(**LOGGER | logger)
    return SimpleNamespace(
        **values, logger=section, to_dict=lambda: values | {"logger": vars(section)}
    )


class Slope(pl.LightningModule):
    """One weight; logs what BagClassifier logs, with scores that rise and fall again."""

    def __init__(self, root: str):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=2)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", [2.0, 1.0, 3.0][self.current_epoch], batch_size=2)
        score = torch.tensor([0.5, 0.75, 0.625])[self.current_epoch]
        self.log("val/balanced_accuracy", score, batch_size=2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(loggers: list, root: str = ".", epochs: int = 3) -> None:
    data = DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)
    pl.Trainer(
        max_epochs=epochs, logger=loggers, accelerator="cpu", log_every_n_steps=1,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    ).fit(Slope(root), data, data)  # fmt: skip


def log_epochs(tracker: Tracker, fold: int, losses: dict[int, float]) -> None:
    """As a Trainer does."""
    with tracker.fold(fold) as loggers:
        for epoch, loss in losses.items():
            for logger in loggers:
                logger.log_metrics({"val/loss": loss, "epoch": epoch}, step=9)


@pytest.fixture(autouse=True)
def _no_wandb_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("WANDB_") and name not in ("WANDB_CACHE_DIR", "WANDB_ERROR_REPORTING"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Two folds and their cross-validation, tracked offline by another user on another host."""
    home = tmp_path_factory.mktemp("home")
    run_dir = home / "runs" / SLUG
    run_dir.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HOME": str(home), "USER": USER, "LOGNAME": USER}.items():
            patch.setenv(name, value)
        for name in ("WANDB_API_KEY", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        patch.setattr(socket, "gethostname", lambda: HOST)
        with Tracker(configuration(home), run_dir, run_dir.name) as tracker:
            for fold in range(2):
                with tracker.fold(fold) as loggers:
                    fit(loggers, root=str(home))
                    tracker.log_fold(PREDICTIONS, {"balanced_accuracy": 0.75, "n": 4})
            tracker.log_cross_validation(METRICS)
        runs = read_runs(run_dir)
    return SimpleNamespace(home=home, run_dir=run_dir, runs=runs)


def test_nothing_names_patient_machine_or_user(job):
    content = b"".join(path.read_bytes() for path in job.run_dir.rglob("*") if path.is_file())
    assert b"val/balanced_accuracy" in content
    for private in (PATIENT, HOST, USER, str(job.home), str(ROOT)):
        assert private.encode() not in content
    assert not (job.home / ".local").exists()
    assert not (job.home / ".cache" / "wandb").exists()
    assert not list(job.run_dir.glob("wandb/*/logs"))


def test_a_run_for_each_fold_and_one_for_all(job):
    assert [run.name for run in job.runs] == [f"fold 0 {SLUG}", f"fold 1 {SLUG}", SLUG]
    assert [run.job_type for run in job.runs] == ["fold", "fold", "cv"]
    assert [run.config.get("fold") for run in job.runs] == [0, 1, None]
    for run in job.runs:
        assert (run.group, run.project, run.tags) == (SLUG, "lymphoml", ["blood", "cv"])
        assert (run.exit_code, run.sweep_id) == (0, "")
        factors = {name: run.config[name] for name in ("optim", "lr", "scheduler")}
        assert factors == {"optim": "sgd", "lr": 0.1, "scheduler": "exponential"}
        assert run.config["cfg"]["model"] == {"encoder": {"weights": "(path)", "norm": "batch"}}
        assert not {"root", "logger"} & {*run.config["cfg"], *run.config["cfg"]["data"]}


def test_a_folds_run_has_one_row_an_epoch_the_best_scores_and_charts(job):
    for run in job.runs[:2]:
        rows = [(row["epoch"], row["_step"], row["val/loss"]) for row in run.history]
        assert rows == [(0, 0, 2), (1, 1, 1), (2, 2, 3)]
        assert all("train/loss" in row for row in run.history)
        assert run.summary["val/balanced_accuracy"] == {"max": 0.75, "last": 0.625}
        assert run.summary["val/loss"] == {"min": 1, "last": 3}
        assert run.summary["balanced_accuracy"] == 0.75
        assert run.table("confusion_table") == [
            ["reactive", "reactive", 1], ["reactive", "tumoral", 1],
            ["tumoral", "reactive", 1], ["tumoral", "tumoral", 1],
        ]  # fmt: skip  # 0.5 is not above the threshold
        curve = [("tumoral", 0, 0), ("tumoral", 0, 0.5), ("tumoral", 0.5, 0.5), ("tumoral", 0.5, 1),
                 ("tumoral", 1, 1)]  # fmt: skip
        assert [tuple(row) for row in run.table("roc_table")] == curve
        assert "artifact" not in run.kinds  # they would be copied under the home folder
    assert job.runs[0].history[0]["train/loss"] != job.runs[1].history[0]["train/loss"]
    summary = job.runs[2].summary
    assert summary["balanced_accuracy"] == 0.625
    assert (summary["balanced_accuracy/low"], summary["balanced_accuracy/high"]) == (0.4, 0.8)
    assert summary["best_epoch_balanced_accuracy/mean"] == 0.7
    assert job.runs[2].table("folds") == [[0, 0.75], [1, 0.5]]


def test_tensorboard_reads_its_files(job):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for fold in range(2):
        (file,) = (job.run_dir / f"fold-{fold}" / "tensorboard").iterdir()
        read = EventAccumulator(str(file)).Reload()
        scores = {event.step: event.value for event in read.Scalars("val/balanced_accuracy")}
        assert scores == {0: 0.5, 1: 0.75, 2: 0.625}
        assert sorted(read.Tags()["scalars"]) == ["train/loss", "val/balanced_accuracy", "val/loss"]
        session = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        assert all(word in session for word in (b"optim", b"sgd", b"scheduler", b"fold", b"lr"))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_fold_ends_its_run_and_no_other(error, tmp_path):
    with Tracker(configuration(tensorboard=False, mode="offline"), tmp_path, SLUG) as tracker:
        with pytest.raises(error), tracker.fold(0) as loggers:  # noqa: PT012
            fit(loggers, epochs=1)
            raise error
        log_epochs(tracker, 1, {0: 1.0, 1: 0.5})
    failed, good = read_runs(tmp_path)
    assert (failed.exit_code, len(failed.history)) == (1, 1)
    assert (good.exit_code, len(good.history), good.config["fold"]) == (0, 2, 1)


def test_a_resumed_fold_is_a_complete_new_run(tmp_path):
    (tmp_path / "fold-0").mkdir()
    (tmp_path / "fold-0" / "history.csv").write_text("epoch,val/loss\n0,5.0\n1,4.0\n2,\n")
    with Tracker(configuration(tensorboard=False, mode="offline"), tmp_path, SLUG) as tracker:
        log_epochs(tracker, 0, {2: 3.0, 3: 2.0})  # the checkpoint was one epoch behind
    (run,) = read_runs(tmp_path)
    epochs = [(row["epoch"], row["val/loss"]) for row in run.history]
    assert epochs == [(0, 5.0), (1, 4.0), (2, 3.0), (3, 2.0)]


def test_a_sweeps_run_is_the_parent(tmp_path, monkeypatch):
    """Also where the run folder was finished before: its numbers are logged again."""
    for name, value in (("SWEEP_ID", "s1"), ("RUN_ID", "job1"), ("PROJECT", "sweeps")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    with Tracker(configuration(tensorboard=False, mode="offline"), tmp_path, SLUG) as tracker:
        assert not {"WANDB_SWEEP_ID", "WANDB_RUN_ID"} & os.environ.keys()
        log_epochs(tracker, 0, {0: 1.0})
    fold, parent = read_runs(tmp_path)
    assert (parent.job_type, parent.sweep_id, parent.folder.name[-4:]) == ("cv", "s1", "job1")
    assert (fold.job_type, fold.sweep_id, fold.group) == ("fold", "", parent.group)
    assert (fold.project, parent.project) == ("sweeps", "sweeps")
    assert parent.summary["balanced_accuracy"] == 0.625


def test_one_class_has_no_curve(tmp_path):
    with Tracker(configuration(mode="offline"), tmp_path, SLUG) as tracker, tracker.fold(0):
        tracker.log_fold(PREDICTIONS[PREDICTIONS["label"] == 1], {"auroc": float("nan")})
    (run,) = read_runs(tmp_path)
    assert run.table("confusion_table")[0] == ["reactive", "reactive", 0]
    assert not {"roc_table/path", "auroc"} & run.summary.keys()


def test_without_wandb_it_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "lymphoml.training.loggers.tracker._client", lambda: pytest.fail("wandb was imported")
    )
    for tensorboard in (True, False):
        config = configuration(wandb=False, tensorboard=tensorboard)
        with Tracker(config, tmp_path, SLUG) as tracker, tracker.fold(0) as loggers:
            assert len(loggers) == tensorboard
            tracker.log_fold(PREDICTIONS, {})
            tracker.log_cross_validation(METRICS)


@pytest.mark.parametrize(
    ("configured", "environment", "key", "mode"),
    [("auto", None, False, "offline"), ("auto", None, True, "online"),
     ("auto", "disabled", True, "disabled"), ("offline", "online", True, "offline"),
     ("online", None, True, "online")],
)  # fmt: skip
def test_mode(configured, environment, key, mode, monkeypatch):
    import wandb

    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    client = SimpleNamespace(login=lambda prompt, verify: key, errors=wandb.errors)
    monkeypatch.setattr("lymphoml.training.loggers.tracker._client", lambda: client)
    assert resolve_mode(configured) == mode


def test_online_without_a_key_is_an_input_error():
    with pytest.raises(InputError, match=r"logger\.mode=online"):
        resolve_mode("online")


def test_slugs_are_public_short_and_different():
    for kept in ("lr=.001,optim=sgd", "model.encoder.weights=default"):
        assert public_slug(kept) == kept
    assert public_slug("data.folds_csv=.home.me.folds.csv,optim=sgd") == "optim=sgd"
    assert public_slug("model.encoder.weights=.home.me.w.pt") == "default"
    overrides = [f"model.width={value}" for value in range(40)]
    slugs = {public_slug(",".join(overrides[start:])) for start in range(40)}
    assert len(slugs) == 40
    assert max(map(len, slugs)) <= 128


def test_paths_and_what_is_no_number_are_left_out():
    for path in ("/a/b", "~/a", "../a", "C:\\a", "a/../../b"):
        config = {"a": [path, 1], "b": {"c": path, "cache": "x"}}
        assert public_config(config) == {"a": ["(path)", 1], "b": {"c": "(path)"}}
    mixed = {"a": 1, "b": None, "c": "P1", "d": float("nan"), "e": {"value": 0.5, "low": 0}}
    assert finite_scalars(mixed) == {"a": 1, "e": 0.5, "e/low": 0}


def test_sweep_is_the_papers_grid():
    sweep = yaml.safe_load((ROOT / "sweeps" / "wandb_ablation.yaml").read_text())
    grid = {key: each["values"] for key, each in sweep["parameters"].items()}
    assert grid == {"optim": ["sgd", "adam"], "lr": [1e-3, 1e-4],
                    "scheduler": ["exponential", "none"]}  # fmt: skip
    assert (sweep["program"], sweep["method"]) == ("train.py", "grid")
    assert sweep["metric"]["name"] == "balanced_accuracy"
    assert sweep["command"][-1] == "${args_no_hyphens}"  # as Hydra takes them: lr=0.001
    for group in ("optim", "scheduler"):
        for option in grid[group]:
            assert (ROOT / "conf" / group / f"{option}.yaml").exists()
