"""The W&B view: what the real client sends to a stand-in, against the JSON that is checked in."""

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from lymphoml.cli.config import compose_config
from lymphoml.cli.main import main
from lymphoml.core.errors import InputError, RuntimeFailure
from lymphoml.reports.dashboard import FACTORS, save_dashboard, sweep_factors
from lymphoml.training.loggers import privacy
from tests.fake_wandb import ENTITY, PROJECT, FakeWandb, connected

VIEW = Path(__file__).with_name("dashboard_view.json")


def config(batch_size=1, **changes):
    factors = dict.fromkeys(FACTORS) | {"optim": "sgd", "lr": 1e-3, "scheduler": "none"}
    data = {"batch_size": batch_size, "folds": 5}
    return factors | {"cfg": {"data": data, "tags": [str(changes)]}} | changes


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = FakeWandb()
    runs = [("ablation", config()), ("ablation", config(lr=1e-4)), ("ablation", config(4)),
            ("cv", config(seed=1))]  # fmt: skip
    for number, (name, values) in enumerate(runs):
        stored = json.dumps({key: {"value": value} for key, value in values.items()})
        server.runs[f"cv{number}"] = {"jobType": "cv", "tags": [name], "config": stored}
        server.runs[f"fold{number}"] = {"jobType": "fold", "tags": [name], "config": "{}"}
    with connected(server, tmp_path_factory.mktemp("home")), server.serving():
        yield server


def test_the_view_is_saved_once_and_then_updated(server, capsys):
    addresses = []
    for _ in range(2):
        main(["dashboard", "name=ablation"])
        addresses.append(capsys.readouterr().out.strip())
    assert addresses[0] == addresses[1]
    assert addresses[0].startswith(f"{server.url}/{ENTITY}/{PROJECT}?nw=lymphoml")
    (view,) = server.views.values()
    assert (view["entityName"], view["projectName"]) == (ENTITY, PROJECT)
    assert view["displayName"] == "lymphoml: ablation"
    assert json.loads(view["spec"]) == json.loads(VIEW.read_text())
    save_dashboard(PROJECT, ENTITY, None)  # another view, of all runs
    assert [each["displayName"] for each in server.views.values()][1:] == ["lymphoml"]
    assert not server.unknown
    sent = b"".join(server.received)
    for machine in (os.environ["HOME"], str(Path.cwd()), socket.gethostname()):
        assert len(machine) < 6 or machine.encode() not in sent


def test_an_unknown_project_or_name_is_an_input_error_and_saves_nothing(server):
    before = dict(server.views)
    with pytest.raises(InputError, match=f"no project {ENTITY}/lymphomk"):
        save_dashboard("lymphomk", None, None)
    with pytest.raises(InputError, match="no finished run of name=abation"):
        save_dashboard(PROJECT, None, "abation")
    assert server.views == before


def test_without_a_key_it_is_bad_input(monkeypatch, capsys):
    import wandb

    without_key = SimpleNamespace(login=lambda prompt, verify: False, errors=wandb.errors)
    monkeypatch.setattr("lymphoml.reports.dashboard.client", lambda: without_key)
    with pytest.raises(SystemExit) as exit:
        main(["dashboard"])
    assert exit.value.code == 2
    assert "Run `wandb login`" in capsys.readouterr().err


def test_a_server_that_fails_is_a_failure_of_the_machine(server, monkeypatch):
    monkeypatch.setattr(server, "refused", {"UpsertView2"})
    with pytest.raises(RuntimeFailure, match=r"dashboard: W&B: .*not today"):
        save_dashboard(PROJECT, ENTITY, None)


def test_axes_are_what_differs_without_what_follows_from_it():
    assert sweep_factors([config(), config(seed=1)]) == ["seed"]
    assert sweep_factors([config(), config(lr=0.1), config(4)]) == ["lr", "cfg.data.batch_size"]
    of_preset = [config(preset="best", batch_size=4), config(preset="paper")]
    assert sweep_factors(of_preset) == ["preset"]  # which sets the size
    assert sweep_factors([]) == sweep_factors([config()]) == list(FACTORS)


def test_factors_are_those_of_a_run():
    assert privacy.sweep_factors(compose_config(), {}).keys() == FACTORS.keys()
