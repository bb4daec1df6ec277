"""The three variants do the same work: no speed is bought by leaving some of it out."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from benchmarks.speed.network import Network
from benchmarks.speed.patients import read_patients
from benchmarks.speed.plain import Plain
from benchmarks.speed.reference import Reference
from lymphoml.cli.config import validate
from lymphoml.data.datamodule import BagDataModule
from lymphoml.data.synthetic.cohort import synthesize
from lymphoml.runs.prepare import new_module, prepare
from lymphoml.training.trainer import make_trainer

CONF = Path(__file__).parents[3] / "conf"
STEPS = 3
HELD_OUT = 3


class Losses(pl.Callback):
    def __init__(self):
        self.losses, self.patients, self.images = [], [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())
        self.patients += batch.ids
        self.images.append(len(batch.images))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    synthesize(folder, patients=15, test_patients=1, images=(4, 7), size=64, seed=3)
    return folder


@pytest.fixture(scope="module")
def lymphoml(root, tmp_path_factory):
    """Initial weights, losses of the first steps in fp32, then held-out probabilities."""
    folder = tmp_path_factory.mktemp("run")
    words = ["experiment=paper", "data=synthetic", f"data.root={root}", "trainer.num_threads=1",
             f"data.cache={folder}", "trainer.precision=32-true", "fold=0",
             "trainer.accelerator=cpu", "trainer.max_epochs=1"]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = validate(compose("train", overrides=words))
    prepared, seen = prepare(config, folder), Losses()
    pl.seed_everything(0, verbose=False)
    bags = BagDataModule(config["data"], prepared.cohort, prepared.store, prepared.folds, 0, 0)
    module = new_module(config, clinical_dim=2)
    initial = {name: value.clone() for name, value in module.model.state_dict().items()}
    trainer = make_trainer(
        config["trainer"], folder, logger=False, callbacks=[seen], enable_checkpointing=False,
        limit_train_batches=STEPS, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=bags)
    predicted = trainer.predict(module, datamodule=bags)
    held_out = {batch.ids[0]: batch.bags.item() for batch in predicted}
    return initial, seen, held_out


@pytest.fixture
def network(lymphoml):
    """As lymphoml's was before its first step."""
    network = Network()
    network.load_state_dict(
        {name.replace("fusion.both", "head"): value.clone() for name, value in lymphoml[0].items()}
    )
    return network


def recipe(kind, network, root, lymphoml, tmp_path):
    everybody = {patient.id: patient for patient in read_patients(root)}
    training = [everybody[patient] for patient in lymphoml[1].patients]
    held_out = [everybody[patient] for patient in lymphoml[2]]
    if kind == "reference":
        return Reference(network, training, held_out, shuffle=False)
    store, bf16 = tmp_path / "store.npy", kind == "plain in bf16"
    return Plain(network, training, held_out, store, bf16, shuffle=False)


# Single precision orders its sums as it likes; bfloat16 has 8 bits, and 3 steps amplify them.
@pytest.mark.parametrize(("kind", "tolerance"), [
    ("reference", 1e-3), ("plain", 1e-3), ("plain in bf16", 0.1),
])  # fmt: skip
def test_the_first_steps_lose_the_same(kind, tolerance, network, root, lymphoml, tmp_path):
    variant = recipe(kind, network, root, lymphoml, tmp_path)
    steps = [(images, float(loss)) for images, loss in variant.train()]
    assert [images for images, _ in steps] == lymphoml[1].images
    expected = pytest.approx(lymphoml[1].losses, rel=tolerance, abs=tolerance)
    assert [loss for _, loss in steps] == expected
    assert len(set(lymphoml[1].losses)) == STEPS
    predicted = [float(probability) for _, probability in variant.predict()]
    assert len(predicted) == HELD_OUT
    assert predicted == pytest.approx(list(lymphoml[2].values()), abs=tolerance)


@pytest.mark.parametrize("kind", ["reference", "plain"])
def test_every_image_and_every_clinical_value_counts(kind, network, root, lymphoml, tmp_path):
    """So that the agreement above could fail."""
    variant = recipe(kind, network, root, lymphoml, tmp_path)
    variant.network.eval()
    for images, clinical, _ in variant.training:
        images = images.float() / (255 if kind == "plain" else 1)
        assert images.max() <= 1
        images, clinical = images.requires_grad_(), clinical.float().requires_grad_()
        variant.network(images, clinical).backward()
        assert (images.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
        assert (clinical.grad != 0).all()
        assert torch.isfinite(images.grad).all()


def test_everything_in_the_network_is_trained(network, root, lymphoml, tmp_path):
    before = {name: value.clone() for name, value in network.named_parameters()}
    for kind in ("reference", "plain"):
        list(recipe(kind, network, root, lymphoml, tmp_path).train())
        for name, value in network.named_parameters():
            assert not torch.equal(before[name], value), f"{kind} leaves {name}"
        before = {name: value.clone() for name, value in network.named_parameters()}
