"""No network: everything but submitting works without one, and asks for none"""

import os
import subprocess
import sys

import pytest

from lymphoml.training.loggers import wandb as wandb_runs
from tests.promises.journey import ROOT

pytestmark = pytest.mark.timeout(1200)  # the journey takes a minute where nothing else runs
CHILD = """
import multiprocessing, socket, sys

def reach(how):
    try:
        if how == "connect":
            socket.create_connection(("192.0.2.1", 80), timeout=1)
        elif how == "look up":
            socket.getaddrinfo("example.org", 80)
        else:
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))
    except OSError as error:
        assert "no network here" in str(error)

if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[2]).Process(target=reach, args=(sys.argv[1],))
    process.start()
    process.join()
"""


@pytest.mark.promise(
    "sockets blocked in every Python process, and for all processes, W&B's service among them, a "
    "network of their own where the system lets",
    "audit, training with loader workers, W&B and TensorBoard, triage, prediction, comparison and "
    "report pass, and ask for no address",
)
def test_everything_passes_without_a_network(journey, record_property):
    assert journey.asked_for == []
    assert [step for step in journey.steps if step.returncode == 0]
    assert list(journey.work.glob("runs/cv/*/wandb/offline-run-*/*.wandb"))
    record_property("tried", len(journey.steps))
    record_property("own network", journey.cut_off)


@pytest.mark.promise("the guard itself: a child of a child reaches out", "caught and written down")
@pytest.mark.parametrize("how", ["connect", "look up", "send"])
@pytest.mark.parametrize("kind", ["spawn", "fork"])
def test_the_guard_catches_a_child(journey, tmp_path, how, kind):
    (tmp_path / "child.py").write_text(CHILD)
    log = tmp_path / "sockets.log"
    environment = journey.environment() | {"SOCKET_LOG": str(log)}
    words = [sys.executable, str(tmp_path / "child.py"), how, kind]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(log.read_text().splitlines()) == 1


TELEMETRY = """
from lymphoml.models.encoders import timm_encoder
timm_encoder("test_resnet")
import huggingface_hub.constants as hub
print(hub.HF_HUB_DISABLE_TELEMETRY)
"""


def test_timms_hub_is_told_nothing_of_the_machine():
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    words = [sys.executable, "-c", TELEMETRY]
    done = subprocess.run(words, cwd=ROOT, env=kept, capture_output=True, text=True)
    assert done.stdout.strip() == "True"


def test_wandb_reports_no_errors_to_its_makers(monkeypatch):
    wandb_runs._client()
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
