"""W&B and TensorBoard: what they show, and that they receive no patient, path, host or user."""

import functools
import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch.utils.data import DataLoader, TensorDataset

from lymphoml.cli.config import compose_config
from lymphoml.core import wandb_client
from lymphoml.core.errors import InputError, RuntimeFailure
from lymphoml.core.wandb_client import resolve_mode
from lymphoml.evaluation.metrics import SCORES
from lymphoml.runs.settings import TrainConfig
from lymphoml.training.loggers.privacy import (
    finite_scalars,
    public_config,
    public_slug,
    sweep_factors,
)
from lymphoml.training.loggers.tracker import Tracker
from tests.fake_wandb import ENTITY, PROJECT, SWEEP, FakeWandb, connected, read_runs

ROOT = Path(__file__).parents[2]
SLUG = "lr=0.1,optim=sgd"
PATIENT, HOST, USER = "PCANARY7", "canary-host", "canary-user"
SCORE = {"value": 0.625, "low": 0.4, "high": 0.8}
STRATA = dict.fromkeys(("all", "hard"), dict.fromkeys(SCORES, SCORE))
METRICS = {
    "n_patients": 4,
    "folds": [{"fold": 0, "balanced_accuracy": 0.75}, {"fold": 1, "balanced_accuracy": 0.5}],
    "balanced_accuracy": SCORE,
    "auroc": SCORE,
    "best_epoch_balanced_accuracy": {"mean": 0.7, "std": None},
    "best_epoch_gap": 0.075,
    "scores": STRATA,
    "baselines": dict.fromkeys(("bag_size", "count_rule", "random_forest"), STRATA),
    "gain": {"reference": "bag_size"} | STRATA,
}
PREDICTIONS = pd.DataFrame(
    {
        "patient": [PATIENT, "P2", "P3", "P4"],
        "fold": 0,
        "label": [0, 0, 1, 1],
        "probability": [0.1, 0.6, 0.5, 0.9],
    }
)
CHOICES = {"experiment": "paper", "model/pooling": "mean", "model/fusion": "concat_unscaled"}
FACTORS = {"preset": "paper", "features": None, "encoder": "resnet18", "pooling": "mean",
           "fusion": "concat_unscaled", "crop": 64, "resize": None, "optim": "sgd", "lr": 0.1,
           "scheduler": "exponential", "seed": 0}  # fmt: skip


@functools.cache
def composed(*overrides: str) -> TrainConfig:
    return compose_config("data=synthetic", "tags=[blood]", *overrides)


def configuration(home: Path = Path("/home/someone"), **logger) -> TrainConfig:
    base = composed("experiment=paper", "lr=0.1", "data.crop=64", "data.resize=null")
    paths = {"model.encoder.weights": str(home / "weights.pt"), "data.root": str(home / "cohort")}
    return base.replace(paths | {f"logger.{key}": value for key, value in logger.items()})


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


OWN = {"WANDB_CACHE_DIR", "WANDB_ERROR_REPORTING", "WANDB_SERVICE"}  # set by this process


@pytest.fixture(autouse=True)
def _no_wandb_environment(monkeypatch):
    for name in os.environ:
        if name.startswith("WANDB_") and name not in OWN:
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Two folds and their cross-validation, tracked offline without a network.

    `leaks` are traces of home, user, host and patient on the disk, during the folds and after.
    """
    home = tmp_path_factory.mktemp("home")
    run_dir = home / "runs" / SLUG
    run_dir.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HOME": str(home), "USER": USER, "LOGNAME": USER}.items():
            patch.setenv(name, value)
        for name in ("WANDB_API_KEY", "WANDB_MODE"):
            patch.delenv(name, raising=False)
        assert getpass.getuser() == USER
        patch.setattr(socket, "gethostname", lambda: HOST)
        patch.setattr(socket.socket, "connect", only_local(socket.socket.connect))
        leaks = []
        with Tracker(configuration(home), run_dir, run_dir.name, CHOICES) as tracker:
            for fold in range(2):
                with tracker.fold(fold) as loggers:
                    fit(loggers, root=str(home))
                    leaks += find_leaks(run_dir, home)
                    tracker.log_fold(PREDICTIONS, dict.fromkeys((*SCORES, "n"), 0.75))
            tracker.log_cross_validation(METRICS)
        runs = read_runs(run_dir)
        leaks += find_leaks(run_dir, home)
    return SimpleNamespace(home=home, run_dir=run_dir, runs=runs, leaks=leaks)


def only_local(connect):
    def refuse(self, address):
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a connection to {address}")
        return connect(self, address)

    return refuse


def find_leaks(run_dir: Path, home: Path) -> list[str]:
    canaries = [PATIENT, HOST, USER, str(home), str(ROOT)]
    if len(platform.node()) > 5:  # a shorter one is found by chance
        canaries.append(platform.node())
    found = []
    for path in run_dir.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        text = str(path.relative_to(run_dir)).encode() + content
        found += [f"{canary} in {path.name}" for canary in canaries if canary.encode() in text]
    return found


def test_nothing_names_patient_machine_or_user(job, tmp_path):
    assert job.leaks == []
    assert not (job.home / ".local").exists()
    assert not (job.home / ".cache" / "wandb").exists()
    assert not list(job.run_dir.glob("wandb/*/logs"))
    (tmp_path / HOST).write_bytes(b"\0" + PATIENT.encode())  # the search finds what is there
    assert find_leaks(tmp_path, tmp_path / "home") == [f"{PATIENT} in {HOST}", f"{HOST} in {HOST}"]


def test_a_run_for_each_fold_and_one_for_all(job):
    assert [run.name for run in job.runs] == [f"fold 0 {SLUG}", f"fold 1 {SLUG}", SLUG]
    assert [run.job_type for run in job.runs] == ["fold", "fold", "cv"]
    assert [run.config.get("fold") for run in job.runs] == [0, 1, None]
    for run in job.runs:
        assert (run.group, run.project) == (f"cv/{SLUG}", "lymphoml")
        assert run.tags == ["blood", "cv"]
        assert (run.exit_code, run.sweep_id) == (0, "")
        assert {name: run.config[name] for name in FACTORS} == FACTORS
        assert run.config["cfg"]["model"]["encoder"]["weights"] == "(path)"
        assert not {"root", "logger"} & {*run.config["cfg"], *run.config["cfg"]["data"]}


def test_a_folds_run_has_one_row_an_epoch_the_best_scores_and_charts(job):
    for run in job.runs[:2]:
        assert [row["epoch"] for row in run.history] == [0, 1, 2]
        assert [row["_step"] for row in run.history] == [0, 1, 2]
        assert [row["val/loss"] for row in run.history] == [2, 1, 3]
        assert all("train/loss" in row for row in run.history)
        assert run.summary["val/balanced_accuracy"] == {"max": 0.75, "last": 0.625}
        assert run.summary["val/loss"] == {"min": 1, "last": 3}
        assert run.summary["fold/balanced_accuracy"] == 0.75
        assert "fold/matthews" not in run.summary
        assert not {"balanced_accuracy", "auroc"} & run.summary.keys()  # of the whole alone
        assert run.table("confusion_table") == [
            ["reactive", "reactive", 1],
            ["reactive", "tumoral", 1],
            ["tumoral", "reactive", 1],  # 0.5 is not above the threshold
            ["tumoral", "tumoral", 1],
        ]
        curve = [("tumoral", 0, 0), ("tumoral", 0, 0.5), ("tumoral", 0.5, 0.5), ("tumoral", 0.5, 1),
                 ("tumoral", 1, 1)]  # fmt: skip
        assert [tuple(row) for row in run.table("roc_table")] == curve
        assert "artifact" not in run.kinds  # they would be copied under the home folder
    assert job.runs[0].history[0]["train/loss"] != job.runs[1].history[0]["train/loss"]


def test_cross_validation_run(job):
    summary = job.runs[2].summary
    assert summary["balanced_accuracy"] == summary["hard/auroc"] == summary["gain/auroc"] == 0.625
    assert (summary["balanced_accuracy/low"], summary["balanced_accuracy/high"]) == (0.4, 0.8)
    assert summary["best_epoch_balanced_accuracy"] == 0.7
    table = {row[0]: row[1:] for row in job.runs[2].table("metrics")}
    assert len(table) > 90
    assert table["baselines/bag_size/hard/f1"] == [0.625, 0.4, 0.8]
    assert table["folds/1/balanced_accuracy"] == [0.5, None, None]


def test_a_summary_has_at_most_30_keys(job):
    assert all(10 < len(run.summary_keys) <= 30 for run in job.runs)


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
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "job1")
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    with Tracker(configuration(tensorboard=False, mode="offline"), tmp_path, SLUG) as tracker:
        assert not {"WANDB_SWEEP_ID", "WANDB_RUN_ID"} & os.environ.keys()
        log_epochs(tracker, 0, {0: 1.0})
    fold, parent = read_runs(tmp_path)
    assert (parent.job_type, parent.sweep_id, parent.folder.name[-4:]) == ("cv", "s1", "job1")
    assert (fold.job_type, fold.sweep_id, fold.group) == ("fold", "", parent.group)
    assert parent.summary["balanced_accuracy"] == 0.625


def test_wandb_that_does_not_start_costs_no_training(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise InputError("W&B does not start")

    monkeypatch.setattr("lymphoml.training.loggers.tracker.client", refuse)
    wandb_client.print_once.cache_clear()
    with Tracker(configuration(tensorboard=False, mode="offline"), tmp_path, SLUG) as tracker:
        log_epochs(tracker, 0, {0: 1.0, 1: 0.5})
        tracker.log_cross_validation(METRICS)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("W&B: W&B does not start")


def test_one_class_has_no_curve(tmp_path):
    with Tracker(configuration(mode="offline"), tmp_path, SLUG) as tracker, tracker.fold(0):
        tracker.log_fold(PREDICTIONS[PREDICTIONS["label"] == 1], {"auroc": float("nan")})
    (run,) = read_runs(tmp_path)
    assert run.table("confusion_table")[0] == ["reactive", "reactive", 0]
    assert not {"roc_table/path", "auroc"} & run.summary.keys()


def test_without_wandb_it_is_not_imported(tmp_path, monkeypatch):
    for module in ("training.loggers.tracker", "core.wandb_client"):
        name = f"lymphoml.{module}.client"
        monkeypatch.setattr(name, lambda: pytest.fail("wandb was imported"))
    for tensorboard in (True, False):
        config = configuration(wandb=False, tensorboard=tensorboard)
        with Tracker(config, tmp_path, SLUG) as tracker, tracker.fold(0) as loggers:
            assert len(loggers) == tensorboard
            tracker.log_fold(PREDICTIONS, {})
            tracker.log_cross_validation(METRICS)


@pytest.mark.parametrize(
    ("configured", "environment", "key", "mode"),
    [
        ("auto", None, False, "offline"),
        ("auto", None, True, "online"),
        ("auto", "disabled", True, "disabled"),
        ("offline", "online", True, "offline"),
        ("online", None, True, "online"),
    ],
)
def test_mode(configured, environment, key, mode, monkeypatch):
    import wandb

    if environment:
        monkeypatch.setenv("WANDB_MODE", environment)
    client = SimpleNamespace(login=lambda prompt, verify: key, errors=wandb.errors)
    monkeypatch.setattr("lymphoml.core.wandb_client.client", lambda: client)
    monkeypatch.setattr("lymphoml.core.wandb_client.connection_error", lambda: None)
    assert resolve_mode(configured) == mode


def test_online_without_a_key_is_an_input_error():
    with pytest.raises(InputError, match=r"logger\.mode=online"):
        resolve_mode("online")


@pytest.fixture
def server(tmp_path):
    server = FakeWandb()
    with connected(server, tmp_path):
        yield server
        server.server_close()


@pytest.mark.parametrize(("name", "words"), [
    ("WANDB_MODE", "WANDB_MODE=foo: must be online, offline or disabled"),
    ("WANDB_INSECURE_DISABLE_SSL", "does not start .*insecure_disable_ssl.*logger=none"),
])  # fmt: skip
def test_another_value_in_the_environment_is_an_input_error(name, words, server, monkeypatch):
    monkeypatch.setenv(name, "foo")
    with pytest.raises(InputError, match=words):
        resolve_mode("auto")


@pytest.mark.parametrize(("given", "project"), [({"project": "mine"}, "mine"), ({}, "theirs")])
def test_the_environments_project_is_that_of_every_run_unless_a_key_is_given(
    given, project, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    config = configuration(tensorboard=False, mode="offline", **given)
    with Tracker(config, tmp_path, SLUG) as tracker:
        log_epochs(tracker, 0, {0: 1.0})
    assert read_runs(tmp_path)[0].project == project


@pytest.mark.slow
def test_a_network_that_is_lost_costs_no_training(server, tmp_path, monkeypatch, capsys):
    """Between folds, and within one, whose run's end is then waited for."""
    monkeypatch.setattr(wandb_client, "FINISH_S", 1)
    with ExitStack() as stack:
        with server.serving():
            tracker = stack.enter_context(Tracker(configuration(tensorboard=False), tmp_path, SLUG))
            log_epochs(tracker, 0, {0: 1.0})
            lost = tracker.fold(1)
            (logger,) = lost.__enter__()
            logger.log_metrics({"val/loss": 2.0, "epoch": 0})
        tracker.log_fold(PREDICTIONS, {})
        lost.__exit__(None, None, None)
        log_epochs(tracker, 2, {0: 1.0})
        tracker.log_cross_validation(METRICS)
    late, gone = capsys.readouterr().err.splitlines()
    assert "Timed out finishing run" in late
    assert "does not answer" in gone
    assert "offline" in gone
    assert [run.name for run in read_runs(tmp_path)] == [f"fold 2 {SLUG}", SLUG]


def test_without_a_network_auto_is_offline_and_online_fails(server, capsys):
    server.server_close()
    assert resolve_mode("auto") == "offline"
    assert server.url in capsys.readouterr().err
    with pytest.raises(RuntimeFailure, match=r"logger\.mode=online: .* does not answer"):
        resolve_mode("online")


@pytest.mark.parametrize(
    ("slug", "public"),
    [
        ("lr=.001,optim=sgd", "lr=.001,optim=sgd"),
        ("data.folds_csv=.home.me.folds.csv,optim=sgd", "optim=sgd"),
        ("model.encoder.weights=.home.me.w.pt", "default"),
        ("model.encoder.weights=default", "model.encoder.weights=default"),
    ],
)
def test_public_slug(slug, public):
    assert public_slug(slug) == public


NOTHING = dict.fromkeys(("features", "encoder", "pooling", "crop", "resize"))
NO_STEPS = dict.fromkeys(("optim", "lr", "scheduler"))


@pytest.mark.parametrize(("overrides", "factors"), [
    (["experiment=best"], {"features": "morphology+random_resnet18+random_resnet18_layer3",
                           "pooling": "meanstd", "fusion": "stackedlogit", **NO_STEPS}),
    (["model/fusion=clinical"], {"fusion": "clinicalonly", "optim": "sgd", "lr": 1e-4, **NOTHING}),
    (["model/encoder=timm"], {"encoder": "resnet10t"}),
    (["data.features.path=f.npz", "model/encoder=mlp"], {"features": "file", "crop": None}),
    (["scheduler=none"], {"scheduler": "none"}),
])  # fmt: skip
def test_a_factor_that_is_not_used_is_null(overrides, factors):
    found = sweep_factors(composed(*overrides), {})
    assert {name: found[name] for name in factors} == factors


def test_factors_have_the_names_of_options_and_no_path():
    choices = {"experiment": "/home/me/mine", "model/pooling": "max_score"}
    found = sweep_factors(composed(), choices)
    assert (found["preset"], found["pooling"]) == ("(path)", "max_score")


def test_long_slugs_fit_and_differ():
    overrides = [f"model.width={value}" for value in range(40)]
    slugs = {public_slug(",".join(overrides[start:])) for start in range(40)}
    assert len(slugs) == 40
    assert max(map(len, slugs)) <= 128


@pytest.mark.parametrize("path", ["/a/b", "~/a", "../a", "C:\\a", "a/../../b"])
def test_paths_are_not_public(path):
    config = {"a": [path, 1], "b": {"c": path, "cache": "x"}}
    assert public_config(config) == {"a": ["(path)", 1], "b": {"c": "(path)"}}


def test_finite_scalars():
    mixed = {"a": 1, "b": None, "c": "P1", "d": float("nan"), "e": {"value": 0.5, "low": 0}}
    assert finite_scalars(mixed) == {"a": 1, "e": 0.5, "e/low": 0}


PROGRAM = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from lymphoml.cli.config import compose_config
from tests.training.test_loggers import METRICS, PREDICTIONS, Tracker

words = "data=synthetic", "logger.tensorboard=false", "logger.project=other"
config = compose_config(*words, *sys.argv[1:])
with Tracker(config, Path.cwd(), ",".join(sys.argv[1:])) as tracker:
    for fold in range(2):
        with tracker.fold(fold) as loggers:
            loggers[0].log_metrics({{"epoch": 0, "val/loss": 1.0}})
            tracker.log_fold(PREDICTIONS, {{}})
    tracker.log_cross_validation(METRICS)
"""
# `wandb sweep` and `wandb agent`, in one process and without the agent's pauses of 5 seconds; then
# the dashboard of what they sent.
COMMANDS = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from lymphoml.cli.main import main
from wandb.cli.cli import cli
from wandb.wandb_agent import Agent
Agent.POLL_INTERVAL = 0.1
cli(["sweep", "sweep.yaml"], standalone_mode=False)
cli(["agent", "--count", "1", "{ENTITY}/{PROJECT}/{SWEEP}"], standalone_mode=False)
main(["dashboard", "project={PROJECT}", "name=wandb_ablation"])
"""


@pytest.mark.slow
def test_wandb_agent(tmp_path):
    """The sweep file under W&B's own agent, online, with a program that only tracks.

    With a group and a dotted key of Hydra more: they are the same in both.
    """
    sweep = yaml.safe_load((ROOT / "sweeps" / "wandb_ablation.yaml").read_text())
    sweep["parameters"] |= {"model/pooling": {"values": ["max"]}, "data.crop": {"values": [64]}}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep | {"program": "program.py"}))
    (tmp_path / "program.py").write_text(PROGRAM)
    with FakeWandb().serving() as server:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS], cwd=tmp_path, text=True, capture_output=True,
            env=server.environment(tmp_path) | {"PATH": path, "USER": USER, "LOGNAME": USER,
                                                "WANDB_ERROR_REPORTING": "false"},
        )  # fmt: skip
    assert (done.returncode, server.unknown) == (0, set()), done.stderr
    assert list(server.exit_codes.values()) == [0, 0, 0], done.stderr
    parent, *folds = sorted(server.runs.values(), key=lambda run: run["jobType"])
    group = ("data.crop=64,experiment=paper,lr=0.001,model/pooling=max,name=wandb_ablation,"
             "optim=sgd,scheduler=exponential")  # fmt: skip
    assert (parent["name"], parent["jobType"], parent["sweep"]) == ("job0", "cv", SWEEP)
    name, _, overrides = parent["groupName"].partition("/")
    assert (name, sorted(overrides.split(","))) == ("wandb_ablation", group.split(","))
    for run in (parent, *folds):
        assert set(run["tags"]) == {"wandb_ablation"}
        sent = {key: each["value"] for key, each in json.loads(run["config"]).items()}
        assert (sent["pooling"], sent["crop"], sent["optim"], sent["lr"]) == (
            "max",
            64,
            "sgd",
            1e-3,
        )
    (view,) = server.views.values()
    assert view["displayName"] == "lymphoml: wandb_ablation"
    assert "config:pooling.value" in view["spec"]
    assert {fold["groupName"] for fold in folds} == {parent["groupName"]}
    assert [(fold["jobType"], fold.get("sweep")) for fold in folds] == [("fold", None)] * 2
    assert {run["project"] for run in server.runs.values()} == {PROJECT}  # the sweep's
    assert server.summaries["job0"][sweep["metric"]["name"]] == 0.625
    sent = [text for text in server.received if b"createAgent" not in text]  # W&B's own has a host
    for canary in (PATIENT, USER, str(tmp_path), str(ROOT), socket.gethostname()):
        if len(canary) > 5:
            assert not [text for text in sent if canary.encode() in text]


def test_sweep_is_the_papers_grid():
    sweep = yaml.safe_load((ROOT / "sweeps" / "wandb_ablation.yaml").read_text())
    grid = {key: each["values"] for key, each in sweep["parameters"].items()}
    assert grid == {"optim": ["sgd", "adam"], "lr": [1e-3, 1e-4],
                    "scheduler": ["exponential", "none"]}  # fmt: skip
    assert (sweep["program"], sweep["method"]) == ("train.py", "grid")
    for group in ("optim", "scheduler"):
        for option in grid[group]:
            assert (ROOT / "conf" / group / f"{option}.yaml").exists()
