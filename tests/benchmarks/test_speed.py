"""The three variants do the same work, and their measurements become medians and ratios."""

import getpass
import json
import socket

import pytest
import pytorch_lightning as pl
import torch

from benchmarks.speed.bench import (
    VARIANTS,
    Measurement,
    collect,
    format_table,
    make_cohort,
    measure,
)
from benchmarks.speed.plain import Plain
from benchmarks.speed.recipe import Network, read_patients
from benchmarks.speed.reference import Reference
from benchmarks.speed.worker import Answer, Job
from lymphoml.cli.config import compose_config
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.cross_validation import cross_validate

STEPS = 3


class Recorded(pl.Callback):
    """What `train.py experiment=paper fold=0` trained on and predicted."""

    def __init__(self):
        self.losses, self.patients, self.images = [], [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())
        self.patients += batch.ids
        self.images.append(len(batch.images))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=15, test_patients=1, images=(2, 4), size=48, seed=3)
    return folder


@pytest.fixture(scope="module")
def lymphoml(root, tmp_path_factory):
    folder, recorded = tmp_path_factory.mktemp("run"), Recorded()
    fit, predict = pl.Trainer.fit, pl.Trainer.predict

    def recording_fit(trainer, module, *args, **kwargs):
        recorded.initial = {name: v.clone() for name, v in module.model.state_dict().items()}
        trainer.callbacks.append(recorded)
        trainer.limit_train_batches = STEPS
        fit(trainer, module, *args, **kwargs)

    def recording_predict(*args, **kwargs):
        batches = predict(*args, **kwargs)
        recorded.held_out = {batch.ids[0]: batch.bags.item() for batch in batches}
        return batches

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "fit", recording_fit)
        patch.setattr(pl.Trainer, "predict", recording_predict)
        config = compose_config(
            "experiment=paper", "data=synthetic", f"data.root={root}", "fold=0", "logger=none",
            f"data.cache={folder}", "trainer.precision=32-true", "trainer.num_threads=1",
            "data.image_baselines=[]", "trainer.accelerator=cpu", "trainer.max_epochs=1",
        )  # fmt: skip
        cross_validate(config, folder / "run")
    return recorded


@pytest.fixture
def network(lymphoml):
    """As lymphoml's was before its first step."""
    network = Network()
    network.load_state_dict(
        {name.replace("fusion.both", "head"): v.clone() for name, v in lymphoml.initial.items()}
    )
    return network


def make_loop(kind, network, root, lymphoml, tmp_path):
    patients = {patient.id: patient for patient in read_patients(root)}
    training = [patients[patient] for patient in lymphoml.patients]
    held_out = [patients[patient] for patient in lymphoml.held_out]
    if kind == "reference":
        return Reference(network, training, held_out, shuffle=False)
    store, bf16 = tmp_path / "store.npy", kind == "plain in bf16"
    return Plain(network, training, held_out, store, bf16, shuffle=False)


# Single precision sums in any order; bfloat16 has 8 bits, and 3 steps amplify the difference.
@pytest.mark.parametrize(("kind", "tolerance"), [
    ("reference", 1e-3), ("plain", 1e-3), ("plain in bf16", 0.1),
])  # fmt: skip
def test_losses_and_predictions_are_the_same(kind, tolerance, network, root, lymphoml, tmp_path):
    before = {name: value.clone() for name, value in network.named_parameters()}
    loop = make_loop(kind, network, root, lymphoml, tmp_path)
    steps = [(images, float(loss)) for images, loss in loop.train()]
    assert [images for images, _ in steps] == lymphoml.images
    expected = pytest.approx(lymphoml.losses, rel=tolerance, abs=tolerance)
    assert [loss for _, loss in steps] == expected
    assert len(set(lymphoml.losses)) == STEPS
    probabilities = [float(probability) for _, probability in loop.predict()]
    assert len(probabilities) == 3
    assert probabilities == pytest.approx(list(lymphoml.held_out.values()), abs=tolerance)
    for name, value in network.named_parameters():
        assert not torch.equal(before[name], value), name


def test_medians_ratios_and_table():
    """Two rounds: the second twice as fast throughout, and 3 s sooner at the first step."""
    speed = {"reference": 10.0, "plain": 45.0, "lymphoml": 40.0}
    measurements = [
        Measurement(
            number, variant,
            Answer(5.0, [speed[variant] * (1 + number)], [4 * speed[variant] * (1 + number)]),
            8.0 - 3 * number, 1000.0, 99.0,
        )
        for number in (0, 1) for variant in VARIANTS
    ]  # fmt: skip
    overrides = ["data.cache=/home/someone/cache", "lr=1e-3"]
    job = Job("", "/tmp/cohort", "/tmp/cache", 1, "32-true", "cpu", 1, 1, overrides)
    condition = {"size": 32, "bag": 4, "patients": 15, "rounds": 2}
    results = json.loads(json.dumps(collect(measurements, job, condition)))
    assert results["medians"]["lymphoml"]["training"] == 60  # of 40 and 80
    assert results["medians"]["lymphoml"]["first_step_seconds"] == 5  # of the second round alone
    assert results["ratios"]["lymphoml/reference"]["training"] == {"median": 4, "low": 4, "high": 4}
    text = json.dumps(results)
    for private in ("/home", "/tmp", "someone/", socket.gethostname(), getpass.getuser() + "/"):
        assert private not in text
    table = format_table(results)
    assert "| lymphoml/plain | 0.89 (0.89 to 0.89) | 0.89 (0.89 to 0.89) |" in table
    assert "results are unreliable" in table


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_runs_in_a_process_of_its_own(variant, tmp_path):
    cohort = make_cohort(tmp_path, size=32, bags=[6] * 15)
    job = Job(variant, str(cohort), str(tmp_path), 1, "32-true", "cpu", 2, 1, ["logger=none"])
    measurement = measure(job)
    assert len(measurement.answer.training) == 2
    assert len(measurement.answer.inference) == 1
    assert min(measurement.answer.training + measurement.answer.inference) > 0
    assert measurement.first_step_seconds > 1
    assert measurement.peak_mib > 300
